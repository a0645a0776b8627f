"""How many GPUs loadtests.capacity plans for a site, and the tables in the documentation."""

import re

import pytest

from loadtests.capacity import Assumptions, hours_per_million, plan, table
from tests.support.models import ROOT

GIVEN = Assumptions(rate=1000, candidates=50, peak=3, load=0.5, spare=0.1, price=2)


def test_a_site_gets_what_its_peak_needs() -> None:
    site = plan(86_400_000, GIVEN)  # 1000 views a second
    assert (site.mean_per_s, site.peak_per_s) == (50_000, 150_000)
    assert site.replicas == 330  # 150,000 / 500, and a tenth more
    assert site.fixed_hours == 330 * 24
    assert site.scaled_hours == pytest.approx(110 * 24)
    assert site.fixed_cost == 330 * 24 * 2


def test_the_smallest_site_has_two() -> None:
    site = plan(1000, GIVEN)
    assert (site.replicas, site.scaled_hours, site.fixed_hours) == (2, 48, 48)


def test_hours_for_a_million() -> None:
    assert hours_per_million(1000) == pytest.approx(1000 / 3600)


def test_the_documents_tables_are_computed() -> None:
    text = (ROOT / "docs" / "operations" / "capacity-planning.md").read_text(encoding="utf-8")
    rates = [float(rate) for rate in re.findall(r"loadtests\.capacity --rate ([0-9.]+)", text)]
    assert rates
    for rate in rates:
        given = Assumptions(rate=rate, candidates=50, peak=3, load=0.6, spare=0.1, price=3)
        assert table([plan(views, given) for views in (1e6, 1e7, 5e7, 1e8)]) in text
