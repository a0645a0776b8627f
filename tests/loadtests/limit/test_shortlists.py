"""loadtests.limit with and without a shortlist, on the fake engine with a small real ranker."""

import asyncio
import os
from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import mean

import pytest

from loadtests.limit import shortlists
from loadtests.limit.machine import Setup
from loadtests.limit.shortlists import IMPRESSIONS, Plan, measure_shortlists
from loadtests.limit.speed import HTTP, Row, find_ratios
from loadtests.limit.workload import READERS_AT_ONCE, Workload, prepare_model
from loadtests.services import LoadTestError
from loadtests.traffic import EXAMPLE_MIND
from tests.loadtests.conftest import Serve
from tests.support.models import SMOLLM2
from tests.support.rankers import write_ranker

SETUP = Setup(
    model=str(SMOLLM2),
    mind=str(EXAMPLE_MIND),
    history=3,
    layout="compact",
    seconds=0.3,
    concurrency=10,
    engine={},
)


async def test_all_and_shortlists_are_measured_in_turns(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortlists, "SIZES", (30,))
    workload = Workload(SMOLLM2, EXAMPLE_MIND, 3, 350)

    def measure(url: str) -> list[Row]:
        return list(measure_shortlists(url, os.getpid(), SETUP, workload, Plan([5, 2])))

    async with serve() as url:
        rows = await asyncio.to_thread(measure, url)
    assert not any(row.error for row in rows)
    shapes = ["rank 30", IMPRESSIONS]
    names = [
        name
        for shape in shapes
        for name in (f"{shape}, all", f"shortlist 5 of {shape}", f"shortlist 2 of {shape}")
    ]
    assert [row.key for row in rows] == [(HTTP, name, "compact") for name in names]
    assert [row.at_once for row in rows] == [2, 2, 5, 2, 2, 5]
    tokens = [row.figures["tokens_per_story"] for row in rows]
    assert tokens[0] > tokens[1] > tokens[2]  # of all candidates
    rates = {row.shape: row.figures["stories_per_s"] for row in rows}
    ratios = find_ratios(rows, "compact")
    assert ratios["shortlist_5_to_all_of_rank_30"] == pytest.approx(
        rates["shortlist 5 of rank 30"] / rates["rank 30, all"], abs=1e-4
    )
    assert len([name for name in ratios if name.startswith("shortlist_")]) == 4


async def test_a_model_without_a_ranker_is_an_error(serve: Serve) -> None:
    workload = Workload(SMOLLM2, EXAMPLE_MIND, 3, 50)

    def measure(url: str) -> list[Row]:
        return list(measure_shortlists(url, os.getpid(), SETUP, workload, Plan([5])))

    async with serve(model=SMOLLM2) as url:
        with pytest.raises(LoadTestError, match="no ranker: name a folder that has one"):
            await asyncio.to_thread(measure, url)


def test_impressions_are_as_long_as_minds(workload: Workload) -> None:
    counts = [len(one.targets) for one in islice(workload.impressions("lengths"), 3000)]
    assert 35 < mean(counts) < 39
    assert sorted(counts)[1500] in range(22, 25)
    assert 2 <= min(counts) < 5
    assert 200 < max(counts) <= 300
    again = [len(one.targets) for one in islice(workload.impressions("lengths"), 9)]
    assert again == counts[:9]


def test_readers_of_impressions_may_return(workload: Workload) -> None:
    asked = list(islice(workload.impressions("visits", 3), 3 * READERS_AT_ONCE + 1))
    *readers, new = [tuple(one.reader.history) for one in asked]
    assert set(Counter(readers).values()) == {3}
    assert readers[:3] != [readers[0]] * 3
    assert new not in readers


def test_a_model_gets_the_ranker_of_another(tmp_path: Path) -> None:
    (tmp_path / "ranker").mkdir()
    ranker = write_ranker(tmp_path / "ranker", None, tower=False)
    made = prepare_model(SMOLLM2, "compact", 3, tmp_path / "models", ranker=ranker)
    for name in ("ranker.json", "ranker.txt", "first_stage.txt"):
        assert (made / name).read_bytes() == (ranker / name).read_bytes()
    with pytest.raises(LoadTestError, match=r"--ranker: no ranker\.json in nowhere"):
        prepare_model(SMOLLM2, "compact", 3, tmp_path / "models", ranker=Path("nowhere"))
