"""The pictures of the dashboards show what Prometheus answers to the panels' own queries."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.models import ROOT
from tools.dashboard_pictures import (
    DASHBOARDS,
    SCRAPE_S,
    UNITS,
    Panel,
    Series,
    Span,
    ask,
    buckets,
    draw,
    has_data,
    legend_shape,
    variables_of,
)

LABELS = {
    label
    for file in DASHBOARDS
    for label in re.findall(r"\{\{(\w+)\}\}", file.read_text(encoding="utf-8"))
}
SPAN = Span(1_000.0, 1_060.0)
NAMES = [file.stem for file in DASHBOARDS]
each_dashboard = pytest.mark.parametrize("file", DASHBOARDS, ids=NAMES)


def prometheus(answer: Callable[[str], list[Any]]) -> httpx.Client:
    """A client of a server that answers a query with this as its `result`."""

    def respond(request: httpx.Request) -> httpx.Response:
        series = answer(request.url.params["query"])
        if request.url.path == "/api/v1/query":
            assert request.url.params["time"] == str(SPAN.end)
            series = [
                {"metric": one["metric"], "value": [SPAN.end, one["values"][1][1]]}
                for one in series
            ]
        else:
            assert request.url.path == "/api/v1/query_range"
        return httpx.Response(200, json={"status": "success", "data": {"result": series}})

    return httpx.Client(base_url="http://prometheus", transport=httpx.MockTransport(respond))


def one_series(query: str) -> list[Any]:
    return [
        {
            "metric": {label: f"the {label}" for label in LABELS} | {"le": "0.5"},
            "values": [[1_000, "1"], [1_005, "2.5"], [1_060, "NaN"]],
        }
    ]


def asked(file: Path, client: httpx.Client) -> list[tuple[Panel, list[Series]]]:
    dashboard = json.loads(file.read_text(encoding="utf-8"))
    variables = variables_of(dashboard)
    return [(panel, ask(client, panel, variables, SPAN)) for panel in dashboard["panels"]]


def written(file: Path, panels: list[tuple[Panel, list[Series]]], folder: Path) -> str:
    """As text of an SVG picture."""
    import matplotlib as mpl

    picture = folder / "picture.svg"
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(file.stem, panels, SPAN).savefig(picture)
    return picture.read_text(encoding="utf-8")


@each_dashboard
def test_all_queries_are_asked_with_their_variables_filled(file: Path) -> None:
    queries: list[str] = []

    def note(query: str) -> list[Any]:
        queries.append(query)
        return []

    panels = asked(file, prometheus(note))
    assert len(queries) == sum(len(panel["targets"]) for panel, _ in panels)
    assert not any("$" in query for query in queries)
    assert any("[20s]" in query for query in queries)
    assert any('=~".*"' in query for query in queries)


@each_dashboard
def test_each_panel_is_drawn_with_its_title_and_legend(file: Path, tmp_path: Path) -> None:
    panels = asked(file, prometheus(one_series))
    drawn = written(file, panels, tmp_path)
    assert "No data" not in drawn
    for panel, series in panels:
        assert f">{panel['title']}</text>" in drawn.replace("&#x27;", "'")
        if panel["type"] != "heatmap":
            for one in series:
                assert f">{one.name}</text>" in drawn


def test_a_panel_without_data_says_so(tmp_path: Path) -> None:
    [file] = [file for file in DASHBOARDS if file.stem == "models"]
    panels = asked(file, prometheus(lambda query: []))
    assert not any(has_data(series) for _, series in panels)
    assert written(file, panels, tmp_path).count(">No data</text>") == len(panels)


def test_a_refused_query_ends_with_prometheus_reason() -> None:
    refused = httpx.Response(400, json={"status": "error", "error": "parse error"})
    transport = httpx.MockTransport(lambda request: refused)
    panel = {"title": "Up", "targets": [{"expr": "up{", "legendFormat": ""}]}
    with (
        httpx.Client(base_url="http://prometheus", transport=transport) as client,
        pytest.raises(ValueError, match="Up: parse error"),
    ):
        ask(client, panel, {}, SPAN)


def test_values_stand_at_their_times_and_gaps_stay_gaps() -> None:
    panel = {"title": "", "targets": [{"expr": "up", "legendFormat": "{{route}} {{absent}}"}]}
    [found] = ask(prometheus(one_series), panel, {}, SPAN)
    assert found.name == "the route"
    assert found.values[:2] == [1.0, 2.5]
    assert len(found.values) == len(SPAN.times) == 13
    assert all(math.isnan(value) for value in found.values[2:])


def test_a_stat_shows_what_is_there_at_the_end() -> None:
    target = {"expr": "up", "legendFormat": "{{route}}", "instant": True}
    [found] = ask(prometheus(one_series), {"title": "", "targets": [target]}, {}, SPAN)
    assert found.values[-1] == 2.5
    assert all(math.isnan(value) for value in found.values[:-1])


def test_buckets_hold_what_fell_above_the_bucket_below() -> None:
    given = [Series("+Inf", [9.0]), Series("0.1", [2.0]), Series("0.5", [7.0])]
    assert buckets(given) == (["0.1", "0.5", "+Inf"], [[2.0], [5.0], [2.0]])


def test_a_long_legend_is_cut() -> None:
    assert legend_shape(["p50", "p95"]) == (1, 2)
    lines, columns = legend_shape([f"the legend of a series {number}" for number in range(50)])
    assert (lines, columns) == (3, 2)


def test_the_interval_is_that_of_grafanas_data_source() -> None:
    file = ROOT / "deploy/monitoring/grafana/provisioning/datasources/prometheus.yml"
    [source] = yaml.safe_load(file.read_text())["datasources"]
    assert source["jsonData"]["timeInterval"] == f"{SCRAPE_S}s"
    assert SPAN.rate_interval == "20s"
    assert Span(0, 24 * 3600).rate_interval == "437s"


def test_units_are_written_out() -> None:
    given = {"short": 4096, "reqps": 0.2, "percentunit": 0.057, "s": 0.25, "bytes": 10**9}
    texts = ["4.1k", "0.2 req/s", "5.7 %", "250 ms", "1,000 MB"]
    assert [UNITS[unit](value) for unit, value in given.items()] == texts
