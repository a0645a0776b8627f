"""Features are those of the moment: no figure knows of what comes later, or at the same time; and
they are what the code that serves makes of the same log, one impression after the other."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from app.ranker.features import NAMES, Floats
from app.signals.counters import HalfLives
from tests.support.one_by_one import OneByOne
from training.ranking import log as log_module
from training.ranking.log import Log
from training.ranking.moments import Catalogue, Moments, Replay

START = datetime(2019, 11, 9, 8)
STORIES = 6
HOUR_S = 3600.0
LISTS = {name: pl.List(pl.UInt32) for name in ("history", "liked", "disliked", "candidates")}


def make_log(clicks: dict[tuple[int, int], bool], rows: int = 12) -> pl.DataFrame:
    """An impression of three stories every ten minutes, two at the same moment each time. clicks:
    by impression and place."""
    found = []
    for number in range(rows):
        shown = [(number + place) % STORIES for place in range(3)]
        found.append(
            {
                "impression": f"i{number}",
                "user": f"u{number}",
                "time": START + timedelta(minutes=10 * (number // 2)),
                "history": [0, 1],
                "liked": [],
                "disliked": [shown[0]],
                "candidates": shown,
                "clicked": [clicks.get((number, place), False) for place in range(3)],
            }
        )
    return pl.DataFrame(found, schema_overrides=LISTS)


def draw_log(random: np.random.Generator, rows: int, stories: int, hours: float) -> pl.DataFrame:
    """Shaped like MIND's: few readers, who come back within the hour; some stories far more often
    shown than others; many impressions of one second; some without labels, history or click."""
    popular = random.permutation(stories)
    found = []
    for number, second in enumerate(np.sort(random.integers(0, int(3600 * hours), rows // 2))):
        for twin in range(2):
            size = int(random.integers(1, 30))
            shown = popular[(stories * random.random(size) ** 3).astype(int)]
            labels = (random.random(size) < 0.1).tolist()
            lists = {name: random.integers(0, stories, random.integers(0, 12)) for name in LISTS}
            found.append(
                {
                    **{name: values.tolist() for name, values in lists.items()},
                    "impression": f"{number}-{twin}",
                    "user": f"u{random.integers(60)}",
                    "time": START + timedelta(seconds=int(second)),
                    "candidates": shown.tolist(),
                    "clicked": None if random.random() < 0.1 else labels,
                }
            )
    return pl.DataFrame(found, schema_overrides=LISTS)


def draw_catalogue(random: np.random.Generator, stories: int, width: int = 4) -> Catalogue:
    vectors = random.normal(size=(stories, width)).astype(np.float32)
    names = ["sports", "news", None, "finance"]
    return Catalogue([names[number] for number in random.integers(0, 4, stories)], vectors)


def replay(
    rows: pl.DataFrame, catalogue: Catalogue | None = None, lives: HalfLives | None = None
) -> list[Moments]:
    log = Log(rows.lazy())
    catalogue = catalogue or Catalogue(
        ["sports", "news"] * (STORIES // 2),
        np.random.default_rng(0).normal(size=(STORIES, 4)).astype(np.float32),
    )
    return list(Replay(catalogue, lives or HalfLives()).moments(log, log.labelled))


def by_impression(moments: Sequence[Moments]) -> list[Floats]:
    """Each impression's matrix."""
    matrix = np.concatenate([part.matrix for part in moments])
    sizes = np.concatenate([part.sizes for part in moments])
    return np.split(matrix, np.cumsum(sizes)[:-1])


def column(rows: pl.DataFrame, name: str) -> list[list[float]]:
    return [matrix[:, NAMES.index(name)].tolist() for matrix in by_impression(replay(rows))]


def test_a_click_planted_in_the_future_moves_no_figure() -> None:
    rows = make_log({(0, 1): True})
    plain = by_impression(replay(rows))
    planted = by_impression(replay(make_log({(0, 1): True, (7, 0): True, (7, 1): True})))
    later = rows["time"][7]
    moved = 0
    for time, one, other in zip(rows["time"], plain, planted, strict=True):
        if time <= later:
            assert np.array_equal(one, other, equal_nan=True), time
        else:
            moved += not np.array_equal(one, other, equal_nan=True)
    assert moved == rows.filter(pl.col("time") > later).height > 0


@pytest.mark.parametrize("events", [1, 200, 1_000_000])
@pytest.mark.parametrize("slow_s", [None, 2 * HOUR_S])
def test_many_at_once_are_what_one_by_one_is(
    slow_s: float | None, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the parts that the log is read in."""
    monkeypatch.setattr(log_module, "PART_EVENTS", events)
    random = np.random.default_rng(1)
    rows, catalogue = draw_log(random, 800, 80, 30.0), draw_catalogue(random, 80)
    lives = HalfLives(slow_s)
    found = replay(rows, catalogue, lives)
    expected = list(OneByOne(catalogue, lives).moments(rows))
    matrix = np.concatenate([part.matrix for part in found])
    wanted = np.concatenate([moment.features for moment in expected])
    assert len(found) > {1: 300, 200: 40, 1_000_000: 3}[events]
    assert matrix.dtype == np.float32
    for number, name in enumerate(NAMES):
        one, other = matrix[:, number], wanted[:, number]
        assert one == pytest.approx(other, rel=2e-5, abs=2e-5, nan_ok=True), name
        if name not in ("tower", "text"):
            assert np.ptp(other) > 0, name
    shown = np.concatenate([part.shown for part in found])
    assert np.array_equal(shown, np.concatenate([moment.shown for moment in expected]))
    labels = rows["clicked"].drop_nulls().explode().to_numpy()
    assert np.array_equal(np.concatenate([part.clicked for part in found]), labels)


def test_a_reader_counts_once_an_hour() -> None:
    """In `draw_log` many would count too often: this is what the comparison above rests on."""
    random = np.random.default_rng(1)
    rows = draw_log(random, 800, 80, 30.0)
    last = by_impression(replay(rows, draw_catalogue(random, 80)))[-1]
    shown = np.expm1(last[:, NAMES.index("shown")])
    counts = rows["candidates"].explode().value_counts().rows()
    most = dict(counts)
    stories = rows.filter(pl.col("clicked").is_not_null())["candidates"][-1].to_list()
    assert all(own < most[story] for own, story in zip(shown, stories, strict=True))


def test_impressions_that_are_not_kept_are_counted() -> None:
    random = np.random.default_rng(2)
    rows, catalogue = draw_log(random, 200, 20, 10.0), draw_catalogue(random, 20)
    log = Log(rows.lazy())
    kept = log.labelled & (np.arange(len(log)) % 7 == 3)
    some = list(Replay(catalogue, HalfLives()).moments(log, kept))
    every = dict(
        zip(np.flatnonzero(log.labelled), by_impression(replay(rows, catalogue)), strict=True)
    )
    numbers = np.concatenate([part.rows for part in some])
    assert numbers.tolist() == np.flatnonzero(kept).tolist()
    for number, matrix in zip(numbers, by_impression(some), strict=True):
        assert np.array_equal(matrix, every[number], equal_nan=True)


def test_impressions_of_one_moment_do_not_see_each_other() -> None:
    found = replay(make_log({}))
    shown = np.concatenate([part.shown for part in found])
    assert shown[:6].tolist() == [0] * 6
    assert shown[6:9].tolist() == [2, 1, 0]  # both earlier ones, and no other


def test_the_readers_own_lists_are_counted() -> None:
    rows = make_log({})
    assert column(rows, "times_passed")[0] == [1, 0, 0]
    assert column(rows, "category_count")[0] == [1, 1, 1]  # of the two stories of the history
    assert column(rows, "history_length")[0] == [2, 2, 2]
