"""Live figures: counted once, decayed, bounded, exchanged and restored."""

import math

import numpy as np
import pytest

from app.signals.counters import Counts, HalfLives
from app.signals.gate import GateLimits
from app.signals.live import (
    PRIOR_RATE,
    STORY_PRIOR,
    LiveFigures,
    ShownStory,
    SignalOptions,
)

NOON = 1_600_000_000.0
HOUR = 3600.0


def shown(*names: str) -> list[ShownStory]:
    return [ShownStory(name, category="news") for name in names]


def feed(live: LiveFigures, readers: int, clicks: int, story: str = "a", at: float = NOON) -> None:
    """As many readers are shown a story, and the first of them click it."""
    for reader in range(readers):
        live.shown(f"{story}{reader}", shown(story), at)
        if reader < clicks:
            live.clicked(f"{story}{reader}", shown(story), at)


def test_clicks_and_impressions_are_counted_by_story_category_and_site() -> None:
    live = LiveFigures()
    feed(live, 10, 3, "a")
    feed(live, 10, 1, "b")
    found = live.figures(["a", "b", "new"], ["news", "news", None], NOON + HOUR)
    assert found.clicks.tolist() == [3, 1, 0]
    assert found.exposure.tolist() == found.shown.tolist() == [10, 10, 0]
    assert found.age_s.tolist() == [HOUR, HOUR, 0]
    assert found.category_clicks.tolist() == [4, 4, 0]
    assert found.recent_clicks == pytest.approx([1.5, 0.5, 0])  # half an hour's half-life passed
    assert found.site_rate == pytest.approx((4 + 4) / (100 + 20))


def test_counts_halve_after_a_half_life_and_late_events_weigh_what_they_would_have() -> None:
    options = SignalOptions(half_lives=HalfLives(slow_s=2 * HOUR, recent_s=None))
    in_time, late = LiveFigures(options), LiveFigures(options)
    feed(in_time, 4, 4, "a", NOON)
    feed(in_time, 1, 0, "b", NOON + 2 * HOUR)
    feed(late, 1, 0, "b", NOON + 2 * HOUR)
    feed(late, 1, 0, "a", NOON + 2 * HOUR)
    for reader in range(4):
        late.clicked(f"late{reader}", shown("a"), NOON)
    now = NOON + 4 * HOUR
    assert in_time.figures(["a"], [None], now).clicks == pytest.approx([1.0])
    assert late.figures(["a"], [None], now).clicks == pytest.approx([1.0])
    assert in_time.figures(["a"], [None], now).recent_clicks == pytest.approx([4.0])


def test_a_story_shown_first_is_not_thought_popular() -> None:
    live = LiveFigures()
    random = np.random.default_rng(0)
    for reader in range(20_000):  # both are as good; the first place is clicked more often
        order = ["a", "b"] if reader % 4 else ["b", "a"]
        stories = [ShownStory(name, position=place) for place, name in enumerate(order)]
        live.shown(str(reader), stories, NOON)
        clicked = [s for s, p in zip(stories, (0.2, 0.05), strict=True) if random.random() < p]
        live.clicked(str(reader), clicked, NOON)
    found = live.figures(["a", "b"], [None, None], NOON)
    plain = found.clicks / found.shown
    fair = found.clicks / found.exposure
    assert plain[0] > 1.7 * plain[1]
    assert fair[0] == pytest.approx(fair[1], rel=0.2)


@pytest.mark.parametrize("known", [0.0, 0.3, 1.0])
def test_clicks_without_positions_make_no_position_look_unpopular(known: float) -> None:
    """A site may report where stories were shown, and only sometimes where they were clicked."""
    live, random = LiveFigures(), np.random.default_rng(0)
    names = [f"s{number}" for number in range(10)]
    for reader in range(4_000):
        order = random.permutation(names)
        stories = [ShownStory(str(name), position=place) for place, name in enumerate(order)]
        live.shown(str(reader), stories, NOON)
        clicked = stories[int(random.integers(10))]
        where = clicked.position if random.random() < known else None
        live.clicked(str(reader), [ShownStory(clicked.story, position=where)], NOON)
    found = live.figures(names, [None] * 10, NOON)
    assert found.exposure == pytest.approx(found.shown, rel=0.1)
    if not known:
        assert np.array_equal(found.exposure, found.shown)
    assert found.rate().mean() == pytest.approx(0.1, rel=0.1)


def test_the_least_recently_shown_stories_leave() -> None:
    live = LiveFigures(SignalOptions(max_stories=2))
    for name in ("a", "b"):
        live.shown("r", shown(name), NOON)
    live.shown("other", shown("a"), NOON + 1)
    live.shown("r", shown("c"), NOON + 2)
    assert len(live) == 2
    assert live.figures(["a", "b", "c"], [None] * 3, NOON + 2).shown.tolist() == [2, 0, 1]


def test_a_reader_counts_once_an_hour_for_a_story() -> None:
    live = LiveFigures()
    for minute in range(60):
        live.shown("reader", shown("a"), NOON + 60 * minute)
        live.clicked("reader", shown("a"), NOON + 60 * minute)
    found = live.figures(["a"], [None], NOON + HOUR)
    assert (found.clicks[0], found.shown[0]) == (1, 1)
    live.clicked("reader", shown("a"), NOON + HOUR)
    assert live.figures(["a"], [None], NOON + HOUR).clicks[0] == 2


def test_a_click_without_an_impression_counts_as_both() -> None:
    live = LiveFigures()
    live.clicked("reader", shown("a"), NOON)
    live.shown("reader", shown("a"), NOON + 1)
    found = live.figures(["a"], [None], NOON)
    assert (found.clicks[0], found.shown[0]) == (1, 1)


@pytest.mark.parametrize("known", [0, 1000])
def test_one_reader_moves_a_figure_no_further_than_the_bound(known: int) -> None:
    """Clicking all day, with a half-life of six hours: 1 / (1 - 2^(-1/6)) = 9.2 clicks."""
    options = SignalOptions(half_lives=HalfLives(slow_s=6 * HOUR))
    live = LiveFigures(options)
    end = NOON + 24 * HOUR
    feed(live, known, round(known * PRIOR_RATE), at=end)
    before = live.figures(["a"], [None], end)
    for minute in range(24 * 60):
        live.clicked("hostile", shown("a"), NOON + 60 * minute)
    after = live.figures(["a"], [None], end)
    most = 1 / (1 - 2 ** (-1 / 6))
    added = after.clicks[0] - before.clicks[0]
    assert 1 < added < most
    bound = (before.clicks[0] + most + STORY_PRIOR * 0.05) / (before.exposure[0] + STORY_PRIOR)
    assert after.rate()[0] < bound + most / (before.exposure[0] + most + STORY_PRIOR)


def test_one_key_adds_no_more_than_its_limit_however_many_readers_it_invents() -> None:
    live = LiveFigures(SignalOptions(limits=GateLimits(key_limit=20)))
    for reader in range(500):
        live.clicked(f"invented{reader}", shown("a"), NOON + reader, key="hostile")
    live.clicked("real", shown("a"), NOON + 500, key="honest")
    found = live.figures(["a"], [None], NOON)
    assert found.clicks[0] == found.shown[0] == 21


def test_of_many_stories_those_shown_last_stay() -> None:
    """Compared with an ordered list, through batches that hold both known and new stories."""
    live, expected = LiveFigures(SignalOptions(max_stories=50)), list[str]()
    random = np.random.default_rng(0)
    for batch in range(60):
        names = [f"s{number}" for number in random.permutation(120)[: random.integers(1, 70)]]
        live.shown(f"r{batch}", shown(*names), NOON)
        assert len(live) == min(50, len({*expected, *names}))
        expected = [*(name for name in expected if name not in names), *names][-50:]
        assert live.snapshot()["stories"].keys == expected
    never = sorted({f"s{number}" for number in range(120)} - {*expected})
    assert live.figures(never, [None] * len(never), NOON).shown.sum() == 0


def test_a_snapshot_restores_what_was_known() -> None:
    live = LiveFigures()
    feed(live, 5, 2)
    stored = {kind: counts.to_bytes() for kind, counts in live.snapshot().items()}
    again = LiveFigures()
    again.restore({kind: Counts.from_bytes(data) for kind, data in stored.items()})
    before, after = (x.figures(["a"], ["news"], NOON + HOUR) for x in (live, again))
    assert after.clicks == pytest.approx(before.clicks)
    assert after.site_rate == before.site_rate
    with pytest.raises(ValueError, match="not a snapshot"):
        Counts.from_bytes(b"broken")
    with pytest.raises(ValueError, match="finite"):
        Counts.checked(["a"], np.full((1, 7), math.nan))
