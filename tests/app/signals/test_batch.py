"""Events counted many at once become what they are one by one."""

import random

import numpy as np
import pytest

from app.signals.batch import Event, sum_events
from app.signals.counters import HalfLives
from app.signals.gate import GateLimits
from app.signals.live import LiveFigures, ShownStory, SignalOptions

NOON = 1_600_000_000.0
HOUR = 3600.0
STORIES = [f"s{number}" for number in range(8)]
CATEGORIES: dict[str, str | None] = {
    story: f"c{number % 3}" if number else None for number, story in enumerate(STORIES)
}


def invented(count: int) -> list[Event]:
    """Some of them late, some with the same reader, with and without positions."""
    choose = random.Random(1)
    events = []
    for _ in range(count):
        positions = choose.random() < 0.7
        stories = [
            (story, choose.choice([0, 1, 2, 300]) if positions else None)
            for story in choose.sample(STORIES, choose.randint(1, 4))
        ]
        at = NOON + choose.randrange(5 * 3600)  # one by one, events share each second's time
        reader = f"r{choose.randrange(20)}"
        events.append(Event(reader, stories, at, choose.random() < 0.3))
    return events


def one_by_one(live: LiveFigures, event: Event) -> None:
    count = live.clicked if event.clicked else live.shown
    stories = [ShownStory(story, CATEGORIES[story], place) for story, place in event.stories]
    count(event.reader, stories, event.at)


def at_once(live: LiveFigures, events: list[Event]) -> None:
    weights = live.position_weights(NOON)
    live.merge(sum_events(events, live.gate, weights, CATEGORIES, live.options.half_lives))


@pytest.mark.parametrize("slow_s", [None, 2 * HOUR])
def test_a_batch_counts_like_single_events(slow_s: float | None) -> None:
    options = SignalOptions(HalfLives(slow_s), limits=GateLimits(key_limit=None))
    single, batch = LiveFigures(options), LiveFigures(options)
    events = [
        Event(e.reader, [(story, None) for story, _ in e.stories], e.at, e.clicked)
        for e in invented(400)
    ]
    for event in events:
        one_by_one(single, event)
    for start in range(0, 400, 150):
        at_once(batch, events[start : start + 150])
    now, categories = NOON + 6 * HOUR, [CATEGORIES[story] for story in STORIES]
    expected, found = (live.figures(STORIES, categories, now) for live in (single, batch))
    for name in expected.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    assert expected.shown.sum() > 100


def test_positions_weigh_alike_in_batches_of_one() -> None:
    single, batch = LiveFigures(), LiveFigures()
    for event in sorted(invented(300), key=lambda event: event.at):
        one_by_one(single, event)
        len(single)  # brings into the counters what is pending
        weights = batch.position_weights(event.at)
        half_lives = batch.options.half_lives
        batch.merge(sum_events([event], batch.gate, weights, CATEGORIES, half_lives))
    nothing = [None] * len(STORIES)
    expected, found = (live.figures(STORIES, nothing, NOON) for live in (single, batch))
    assert found.exposure == pytest.approx(expected.exposure)
    assert np.abs(found.exposure - found.shown).max() > 0.01


def test_one_reader_moves_a_story_once_an_hour() -> None:
    live = LiveFigures()
    hours, events = 5, []
    for second in range(0, hours * 3600, 60):
        events.append(Event("one", [("s1", 0)], NOON + second))
        events.append(Event("one", [("s1", 0)], NOON + second, clicked=True))
    at_once(live, events)
    found = live.figures(["s1"], [None], NOON + hours * HOUR)
    assert 1 < found.shown[0] <= hours + 1
    assert 1 < found.clicks[0] <= hours + 1


def test_nothing_that_counts_adds_nothing() -> None:
    live = LiveFigures()
    at_once(live, [])
    assert len(live) == 0
