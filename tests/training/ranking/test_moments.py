"""Features are those of the moment: no figure knows of what comes later, or at the same time."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from app.ranker.features import FEATURES, NAMES
from app.signals.counters import HalfLives
from training.ranking.moments import Catalogue, Moment, Replay

START = datetime(2019, 11, 9, 8)
STORIES = 6


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
    return pl.DataFrame(found, schema_overrides={"liked": pl.List(pl.UInt32)})


def replay(log: pl.DataFrame) -> list[Moment]:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(STORIES, 4)).astype(np.float32)
    ids = [f"N{number}" for number in range(STORIES)]
    catalogue = Catalogue(ids, ["sports", "news"] * (STORIES // 2), vectors)
    return list(Replay(catalogue, HalfLives()).moments(log))


def column(moments: list[Moment], name: str) -> list[list[float]]:
    return [moment.features[:, NAMES.index(name)].tolist() for moment in moments]


def test_a_click_planted_in_the_future_moves_no_figure() -> None:
    plain = replay(make_log({(0, 1): True}))
    planted = replay(make_log({(0, 1): True, (7, 0): True, (7, 1): True}))
    later = START + timedelta(minutes=30)  # when impression 7 is shown
    moved = 0
    for one, other in zip(plain, planted, strict=True):
        if one.time <= later:
            assert np.array_equal(one.features, other.features, equal_nan=True), one.id
        else:
            moved += not np.array_equal(one.features, other.features, equal_nan=True)
    assert moved == len([moment for moment in plain if moment.time > later])


def test_impressions_of_one_moment_do_not_see_each_other() -> None:
    moments = replay(make_log({}))
    assert moments[0].time == moments[1].time
    assert moments[0].shown.tolist() == moments[1].shown.tolist() == [0, 0, 0]
    assert moments[2].shown.tolist() == [2, 1, 0]  # both earlier ones, and no other


def test_without_live_figures_only_those_differ() -> None:
    moments = replay(make_log({(0, 0): True}))
    live = [FEATURES[name] == "live" for name in NAMES]
    last = moments[-1]
    assert np.array_equal(last.features[:, np.invert(live)], last.fresh[:, np.invert(live)], True)
    assert not last.fresh[:, live].any()
    assert last.features[:, live].any()


def test_the_readers_own_lists_are_counted() -> None:
    moments = replay(make_log({}))
    assert column(moments, "times_passed")[0] == [1, 0, 0]
    assert column(moments, "category_count")[0] == [1, 1, 1]  # of the two stories of the history
    assert column(moments, "history_length")[0] == [2, 2, 2]
