"""Events counted many at once become what they are one by one."""

import random
import time
from collections import Counter

import numpy as np
import pytest

from app.signals.batch import Event, sum_events
from app.signals.counters import HalfLives
from app.signals.gate import GateLimits, Kind
from app.signals.live import LiveFigures, SignalOptions

NOON = 1_600_000_000.0
HOUR = 3600.0
STORIES = [f"s{number}" for number in range(8)]
CATEGORIES: dict[str, str | None] = {
    story: f"c{number % 3}" if number else None for number, story in enumerate(STORIES)
}
UNLIMITED = GateLimits(key_limit=None)


def invented(count: int, readers: int = 20) -> list[Event]:
    """Some of them late, some with the same reader, with and without positions, and some clicks
    that are taken back."""
    choose = random.Random(1)
    events: list[Event] = []
    for _ in range(count):
        if events and choose.random() < 0.2:
            one = choose.choice(events)
            events.append(Event(one.reader, one.stories, one.at, Kind.TAKEN_BACK, one.places))
            continue
        stories = choose.choices(STORIES, k=choose.randint(1, 4))
        places = [choose.choice([0, 1, 2, 300]) for _ in stories] if choose.random() < 0.7 else None
        at = NOON + choose.randrange(5 * 3600)
        kind = Kind.CLICKED if choose.random() < 0.3 else Kind.SHOWN
        events.append(Event(f"r{choose.randrange(readers)}", stories, at, kind, places))
    return events


class OneByOne:
    """What the rules say, as plainly as possible: counts of stories that never decay."""

    def __init__(self) -> None:
        self.shown_at: dict[tuple[object, str], float] = {}
        self.clicked_at: dict[tuple[object, str], float] = {}
        self.shown: Counter[str] = Counter()
        self.clicks: Counter[str] = Counter()

    def count(self, event: Event) -> None:
        for story in event.stories:
            pair = event.reader, story
            was_shown = abs(event.at - self.shown_at.get(pair, -np.inf)) < HOUR
            was_clicked = abs(event.at - self.clicked_at.get(pair, -np.inf)) < HOUR
            if event.kind == Kind.TAKEN_BACK:
                if self.clicked_at.get(pair) == event.at:
                    del self.clicked_at[pair]
                    self.clicks[story] -= 1
                continue
            clicks = event.kind == Kind.CLICKED
            if not was_shown and not (clicks and was_clicked):
                self.shown_at[pair] = event.at
                self.shown[story] += 1
            if clicks and not was_clicked:
                self.clicked_at[pair] = event.at
                self.clicks[story] += 1


def at_once(live: LiveFigures, events: list[Event]) -> None:
    weights = live.position_weights(NOON)
    live.merge(sum_events(events, live.gate, weights, CATEGORIES, live.options.half_lives))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_batch_counts_like_single_events(size: int) -> None:
    expected, batch = OneByOne(), LiveFigures(SignalOptions(limits=UNLIMITED))
    events = invented(1000)
    for event in events:
        expected.count(event)
    for start in range(0, 1000, size):
        at_once(batch, events[start : start + size])
    found = batch.figures(STORIES, [None] * len(STORIES), NOON)
    assert found.shown.tolist() == [expected.shown[story] for story in STORIES]
    assert found.clicks.tolist() == [expected.clicks[story] for story in STORIES]
    assert 100 < expected.clicks.total() < expected.shown.total() - 100


@pytest.mark.parametrize("slow_s", [None, 2 * HOUR])
def test_batches_of_any_size_decay_alike(slow_s: float | None) -> None:
    options = SignalOptions(HalfLives(slow_s), limits=UNLIMITED)
    single, batch = LiveFigures(options), LiveFigures(options)
    events = [Event(e.reader, e.stories, e.at, e.kind) for e in invented(400)]
    for event in events:
        at_once(single, [event])
    for start in range(0, 400, 150):
        at_once(batch, events[start : start + 150])
    now, categories = NOON + 6 * HOUR, [CATEGORIES[story] for story in STORIES]
    expected, found = (live.figures(STORIES, categories, now) for live in (single, batch))
    for name in expected.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    assert expected.shown.sum() > 100


def test_one_reader_moves_a_story_once_an_hour() -> None:
    live = LiveFigures()
    hours, events = 5, []
    for second in range(0, hours * 3600, 60):
        events.append(Event("one", ["s1"], NOON + second, Kind.SHOWN, [0]))
        events.append(Event("one", ["s1"], NOON + second, Kind.CLICKED, [0]))
    at_once(live, events)
    found = live.figures(["s1"], [None], NOON + hours * HOUR)
    assert 1 < found.shown[0] <= hours + 1
    assert 1 < found.clicks[0] <= hours + 1


def test_a_click_taken_back_leaves_no_trace() -> None:
    """At its decayed weight: later events make no difference."""
    options = SignalOptions(HalfLives(HOUR))
    never, undone = LiveFigures(options), LiveFigures(options)
    shown, click = (Event("one", ["s1"], NOON, kind, [2]) for kind in (Kind.SHOWN, Kind.CLICKED))
    back = Event("one", ["s1"], NOON, Kind.TAKEN_BACK, [2])
    later = Event("other", ["s1"], NOON + 3 * HOUR, Kind.CLICKED, [0])
    at_once(never, [shown, later])
    at_once(undone, [shown, click])
    at_once(undone, [later, back, back])
    now = NOON + 4 * HOUR
    expected, found = (live.figures(["s1"], ["c1"], now) for live in (never, undone))
    for name in expected.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    at_once(undone, [click, click])
    assert undone.figures(["s1"], [None], NOON).clicks[0] > found.clicks[0]


def test_a_click_that_did_not_count_takes_nothing_back() -> None:
    """Or a reader could make a story's clicks negative."""
    live = LiveFigures()
    at_once(live, [Event("one", ["s1"], NOON, Kind.CLICKED)])
    for number in range(1, 20):
        at = NOON + number
        at_once(live, [Event("one", ["s1"], at, Kind.CLICKED)])
        at_once(live, [Event("one", ["s1"], at, Kind.TAKEN_BACK)])
        at_once(live, [Event("other", ["s1"], at, Kind.TAKEN_BACK)])
    found = live.figures(["s1"], [None], NOON)
    assert (found.shown[0], found.clicks[0]) == (1, 1)


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_key_is_limited_for_a_story_by_when_its_events_arrive(size: int) -> None:
    """However old they say to be, and however many stories it invents besides."""
    live = LiveFigures(SignalOptions(limits=GateLimits(key_limit=50)))
    choose = random.Random(2)
    events = []
    for number in range(2000):
        at = NOON - choose.randrange(30 * 24) * HOUR
        stories = ["s1", f"invented {number}"]
        kind = choose.choice([Kind.SHOWN, Kind.CLICKED])
        events.append(Event(f"u{number}", stories, at, kind, key="bad", arrived=NOON))
    events += [Event(f"v{n}", ["s1"], NOON, key="good", arrived=NOON) for n in range(30)]
    for start in range(0, len(events), size):
        at_once(live, events[start : start + size])
    assert live.figures(["s1"], [None], NOON).shown[0] == 50 + 30
    at_once(live, [Event("later", ["s1"], NOON, key="bad", arrived=NOON + HOUR)])
    assert live.figures(["s1"], [None], NOON).shown[0] == 50 + 30 + 1


def test_a_hostile_batch_costs_little_more_than_others() -> None:
    """The same reader and story again and again, which must be judged one after the other."""
    many = [Event("one", ["s1"] * 300, NOON + number) for number in range(250)]
    usual = [Event(f"r{n}", [f"s{n}.{k}" for k in range(300)], NOON) for n in range(250)]
    taken = []
    for events in (usual, many):
        live = LiveFigures()
        started = time.thread_time()
        at_once(live, events)
        taken.append(time.thread_time() - started)
    assert taken[1] < 10 * taken[0] + 0.1


def test_nothing_that_counts_adds_nothing() -> None:
    live = LiveFigures()
    at_once(live, [])
    at_once(live, [Event("one", [], NOON), Event("one", ["s1"], NOON, Kind.TAKEN_BACK)])
    assert len(live) == 0
