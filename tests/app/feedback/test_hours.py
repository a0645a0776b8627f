"""Reports that use sums of past hours find what reading every answer finds."""

from array import array
from collections import defaultdict
from collections.abc import Callable
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pytest
from numpy.random import Generator
from sqlalchemy import Connection, func, select

from app.feedback import hours
from app.feedback.hours import DAY_S, cut_by_day, decode, encode, merge, read_parts, sum_hours
from app.feedback.totals import Group, Totals, read_totals
from app.store.database import Database
from app.store.events import add_events
from app.store.hours import HOUR_S
from app.store.records import Answer, ClickEvent, Feedback, ImpressionEvent, Remembered, StoredStory
from app.store.retention import Retention, alone, erase_reader, trim
from app.store.tables import changed_hours, figures
from app.store.writing import keep_answers, record_feedback
from tests.support.stores import KEY, rows

START = 1_800_000_000.0
STORIES = [StoredStory(f"N{place}", f"Story {place}") for place in range(6)]
Sums = defaultdict[Group, Totals]
DAYS = 0.5
"""Within which all happens, so that retention by days takes part."""


class World:
    """Answers, feedback and erasures of many readers, at random, at a time of our own."""

    def __init__(self, url: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random: Generator = np.random.default_rng(seed)
        self.now = START
        self.kept: list[str] = []
        monkeypatch.setattr(Database, "now", lambda _: self.now)
        monkeypatch.setattr(hours, "LAG", 0.0)
        monkeypatch.setattr(hours, "OVERDUE_S", 0.0)
        self.database = Database(url)
        self.database.open()
        self.rows = 10_000

    def answer(self) -> None:
        """A few answers, some of them late, as after an outage, or with an id used before."""
        found = [self.new_answer() for _ in range(self.random.integers(1, 8))]
        self.kept += [one.id for one in found]
        with self.database.writing() as connection:
            keep_answers(connection, list({one.id: one for one in found}.values()), KEY, self.now)

    def new_answer(self) -> Answer:
        size = int(self.random.integers(1, len(STORIES) + 1))
        shown = self.random.permutation(len(STORIES))[:size]
        ranked = bool(self.random.random() < 0.8)
        late = self.random.exponential(2 * HOUR_S) if self.random.random() < 0.2 else 0.0
        again = self.kept and self.random.random() < 0.05
        reader = f"reader {self.random.integers(12)}"
        return Answer(
            id=str(self.random.choice(self.kept)) if again else f"A{self.random.integers(1 << 60)}",
            time=self.now - late,
            model=f"model {self.random.integers(2)}",
            alias=[None, "default"][self.random.integers(2)],
            ranked=ranked,
            stories=size,
            indices=array("H", range(size)).tobytes(),
            probabilities=np.sort(self.random.random(size))[::-1].astype(np.float32).tobytes(),
            story_ids=[STORIES[place].id for place in shown],
            remembered=Remembered(reader, [STORIES[place] for place in shown], None),
        )

    def give_feedback(self) -> None:
        """Also for answers of hours ago, and taken back."""
        some = [str(one) for one in self.random.choice(self.kept or ["unknown"], 5)]
        self.record([Feedback(one, 0, bool(self.random.random() < 0.6)) for one in some])

    def record(self, items: list[Feedback]) -> None:
        with self.database.writing() as connection:
            record_feedback(connection, items, self.now - DAYS * 86400, self.now)

    def send_events(self) -> None:
        """Clicks on answers, some of which are unknown, and impressions, which don't count."""
        names = [str(one) for one in self.random.choice(self.kept, 3)] if self.kept else []
        clicked = [
            ClickEvent(f"C{self.random.integers(1 << 60)}", self.now, None, "N1", name)
            for name in [*names, "unknown"]
        ]
        shown = ImpressionEvent(f"I{self.random.integers(1 << 60)}", self.now, None, ["N1"])
        with self.database.writing() as connection:
            add_events(connection, [shown], clicked, KEY, self.now)

    def erase(self) -> None:
        reader = KEY.hash(f"reader {self.random.integers(12)}")
        erase_reader(self.database, reader, self.now)

    def retain(self) -> None:
        with self.database.reading() as connection:
            kept = connection.execute(select(func.count()).select_from(figures)).scalar_one()
        rows = max(20, kept * 20) if self.random.random() < 0.3 else 10_000
        trim(self.database, Retention(DAYS, rows))

    def sum(self) -> None:
        sum_hours(self.database, self.now - DAYS * 86400, lambda: False)

    def step(self) -> None:
        acts: list[Callable[[], None]] = [self.answer, self.give_feedback, self.send_events]
        acts += [self.erase, self.retain, self.sum]
        shares = [0.5, 0.25, 0.1, 0.02, 0.03, 0.1]
        acts[self.random.choice(len(acts), p=shares)]()
        self.now += self.random.exponential(600)

    def sums_used(self) -> int:
        """Of how many hours a report uses the sums."""
        valid = figures.c.hour.not_in(select(changed_hours.c.hour))
        with self.database.reading() as connection:
            return connection.execute(select(func.count(figures.c.hour)).where(valid)).scalar_one()

    def marks(self) -> int:
        """How many hours are marked that a report might use."""
        with self.database.reading() as connection:
            hour = changed_hours.c.hour
            marked = select(hour).where(hour.in_(select(figures.c.hour)))
            return len(set(connection.execute(marked).scalars()))

    def check(self) -> None:
        back = self.random.random() * DAYS * 86400
        with self.database.reading() as connection:
            check_equal(connection, self.now - back, self.now)


def check_equal(connection: Connection, since: float, now: float) -> None:
    """In all, and of each day."""
    found: Sums = defaultdict(Totals)
    days: defaultdict[int, Sums] = defaultdict(lambda: defaultdict(Totals))
    for start, part in read_parts(connection, since, now):
        merge(found, part)
        merge(days[int(start // DAY_S)], part)
    same(found, read_totals(connection, since))
    for day, sums in days.items():
        start = max(since, day * DAY_S)
        same(sums, read_totals(connection, start, (day + 1) * DAY_S))


def same(found: Sums, expected: dict[Group, Totals]) -> None:
    assert found.keys() == expected.keys()
    for group, totals in expected.items():
        assert numbers(found[group]) == pytest.approx(numbers(totals), rel=1e-9)
        assert np.allclose(found[group].by_step, totals.by_step, rtol=1e-9, atol=1e-9)


def numbers(totals: Totals) -> list[float]:
    own = [totals.answers, totals.stories, totals.with_feedback]
    return [*own, *(value for one in totals.moments for value in astuple(one))]


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [(5.0, 90.0, 1), (0.0, 86_400.0, 1), (86_399.0, 86_401.0, 2), (0.0, 3 * 86_400.0 + 1, 4)],
)
def test_a_time_span_is_cut_at_midnight(start: float, end: float, parts: int) -> None:
    found = list(cut_by_day(start, end))
    assert len(found) == parts
    assert (found[0][0], found[-1][1]) == (start, end)
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert all(first // DAY_S == (last - 0.5) // DAY_S for first, last in found)


@pytest.mark.parametrize("seed", range(2))
def test_sums_of_hours_change_no_figure(
    store_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(store_url, seed, monkeypatch)
    used = []
    for _ in range(60):
        for _ in range(3):
            world.step()
        world.check()
        used.append(world.sums_used())
    world.database.close()
    assert np.median(used) >= 2  # so many hours' sums a report used


def test_what_commits_while_an_hour_is_summed_is_not_lost(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(store_url, 7, monkeypatch)
    for _ in range(20):
        world.answer()
        world.now += 600

    def encode_late(totals: dict[Group, Totals]) -> bytes:
        world.give_feedback()
        return encode(totals)

    monkeypatch.setattr(hours, "encode", encode_late)
    world.sum()
    world.check()
    monkeypatch.setattr(hours, "encode", encode)
    assert rows(store_url, "SELECT count(*) FROM changed_hours") != [(0,)]
    world.sum()
    assert rows(store_url, "SELECT count(*) FROM changed_hours") == [(0,)]
    world.check()
    world.database.close()


def test_older_sums_replace_no_newer_ones(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two instances sum the same hour, which changes in between: as on SQLite, where no lock keeps
    them apart."""
    world = World(store_url, 8, monkeypatch)
    for _ in range(20):
        world.answer()
        world.now += 600
    world.sum()
    monkeypatch.setattr(hours, "alone", lambda *_: True)

    def encode_after_another(totals: dict[Group, Totals]) -> bytes:
        monkeypatch.setattr(hours, "encode", encode)
        world.record([Feedback(name, 0, False) for name in world.kept])
        world.sum()
        return encode(totals)

    world.record([Feedback(name, 0, True) for name in world.kept])
    monkeypatch.setattr(hours, "encode", encode_after_another)
    world.sum()
    assert world.sums_used() > 2
    with world.database.reading() as connection:
        check_equal(connection, world.now - DAYS * 86400, world.now)
    world.database.close()


def test_late_feedback_waits_a_while_and_deleted_answers_do_not(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(store_url, 10, monkeypatch)
    for _ in range(30):
        world.answer()
        world.now += 600
    world.sum()
    monkeypatch.setattr(hours, "LAG", 1 / 60)
    monkeypatch.setattr(hours, "OVERDUE_S", 300)
    world.record([Feedback(name, 0, True) for name in world.kept])
    before = world.marks()
    world.sum()
    assert before > 2
    assert world.marks() == before
    world.now += 900  # the hours are at most 9 hours old, and 9 / 60 hours are 540 s
    world.check()  # reports no longer use the sums
    world.sum()
    assert world.marks() == 0
    world.check()
    for number in range(12):
        erase_reader(world.database, KEY.hash(f"reader {number}"), world.now)
    assert world.marks() > 2
    world.check()
    world.sum()
    assert world.marks() == 0
    world.database.close()


def test_one_instance_at_a_time_sums(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if store_url.startswith("sqlite"):
        return  # it has no such lock, and needs none
    world = World(store_url, 9, monkeypatch)
    for _ in range(20):
        world.answer()
        world.now += 600
    with world.database.reading() as other:
        assert alone(other, hours.HOURS_LOCK)
        world.sum()
        assert rows(store_url, "SELECT count(*) FROM figures") == [(0,)]
    world.sum()
    assert rows(store_url, "SELECT count(*) FROM figures") != [(0,)]
    world.database.close()


def test_sums_are_the_same_after_keeping() -> None:
    assert decode(encode({})) == {}
    random = np.random.default_rng(3)
    totals = {("m", None): Totals(), ("m", "default"): Totals(4, 12, 3), ("n", "default"): Totals()}
    for one in totals.values():
        for moments in one.moments:
            moments.add(random.random(5), random.random(5))
        one.by_step[:, random.integers(0, 10_000, 50)] = random.random((3, 50))
    found = decode(encode(totals))
    assert found.keys() == totals.keys()
    for group, one in totals.items():
        assert numbers(found[group]) == numbers(one)
        assert (found[group].by_step == one.by_step).all()
