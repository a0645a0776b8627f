"""The simulated readers meet the service: what each arm shows them, and what they click."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, groupby

import httpx
import numpy as np

from examples.replay import Json, ReplayError, Site
from examples.site.world import DAY_S, HOUR_S, Ints, Outcome, Size, Visit, World, show

STEP_S = HOUR_S // 2
"""Visits of the same half-hour don't know of each other: their events are sent together."""
READ_S = 10
"""How many seconds a reader takes to come to a click, for each place."""
Arm = Mapping[str, object] | None
"""What an arm's requests of /rank say besides reader and candidates; None: a random order."""
ARMS: dict[str, Arm] = {"random": None, "text": {"ranker": False}, "ranker": {}}
CROWD = "crowd"


@dataclass(frozen=True, slots=True)
class Night:
    """The moment between two days. day: the number of days measured so far. start, end: of the day
    that is over, in Unix seconds."""

    url: str
    day: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Row:
    """A list that a measured reader was shown. day: from 1. The other fields are Outcome's, with
    the share of the stories that was clicked."""

    seed: int
    day: int
    arm: str
    reader: int
    click_through: float
    expected: float
    auc: float


class Week:
    """arms: by name. read: the stories that each reader has clicked. numbers: of the lists shown.

    The readers of all arms are twins: they have the same tastes, visits, candidates and luck, so
    that arms differ only by the order of their lists.
    """

    def __init__(
        self, client: httpx.Client, world: World, arms: Mapping[str, Arm], now: float
    ) -> None:
        self.client, self.world, self.arms = client, world, arms
        self.start = now // DAY_S * DAY_S - world.all_days * DAY_S
        self.site = Site(client, self._ids(), self.start)
        self.read: defaultdict[str, set[int]] = defaultdict(set)
        self.numbers = count()

    def run(self, nightly: Callable[[Night], None] | None = None) -> Iterator[Row]:
        """The rows of the measured days. nightly: called after each of them but the last. Raises
        ReplayError or httpx.HTTPError."""
        before = self.world.size.before
        for day in range(self.world.all_days):
            self._publish(day)
            if day == 0:
                self._check_arms()
            if day < before:
                self._show_random(day)
                continue
            yield from self._measured(day)
            if nightly and day < self.world.all_days - 1:
                start = self.start + day * DAY_S
                url = str(self.client.base_url).rstrip("/")
                nightly(Night(url, day - before + 1, start, start + DAY_S))

    def _ids(self) -> list[str]:
        return [f"S{self.world.seed}-{number}" for number in range(len(self.world.stories))]

    def _publish(self, day: int) -> None:
        """Send the stories of a day; with the first day's those that are there already."""
        start = day * DAY_S if day else -DAY_S
        stories = [
            {
                "id": self.site.ids[index],
                "title": (story := self.world.stories[index]).title,
                "category": story.category,
                "published_at": self.start + story.published,
            }
            for index in self.world.published(start, (day + 1) * DAY_S)
        ]
        self.site.put_stories(stories)

    def _show_random(self, day: int) -> None:
        """A day before the measured ones."""
        for visit in self.world.visits(day):
            for arm in self._arms_of(visit):
                self._note(arm, visit, as_drawn(visit))
        self.site.tell()

    def _measured(self, day: int) -> Iterator[Row]:
        number = day - self.world.size.before + 1
        begun = time.monotonic()
        for _, step in groupby(self.world.visits(day), key=lambda visit: visit.time // STEP_S):
            for visit in step:
                for arm in self._arms_of(visit):
                    outcome = self._note(arm, visit, self._order(arm, visit))
                    if arm != CROWD:
                        share = float(outcome.clicked.mean())
                        figures = share, outcome.expected, outcome.auc
                        yield Row(self.world.seed, number, arm, visit.reader, *figures)
            self.site.tell()
        took = time.monotonic() - begun
        print(f"seed {self.world.seed}, day {number}: {took:.0f} s", file=sys.stderr, flush=True)

    def _arms_of(self, visit: Visit) -> list[str]:
        return list(self.arms) if visit.reader < self.world.size.readers else [CROWD]

    def _reader_id(self, arm: str, visit: Visit) -> str:
        return f"{arm}-{self.world.seed}-{visit.reader}"

    def _order(self, arm: str, visit: Visit) -> Ints:
        """Places of the candidates in the order in which the arm shows them."""
        terms = self.arms.get(arm)
        if terms is None:
            return as_drawn(visit)
        answer = self._rank(terms, visit.candidates, visit.time, self._reader_id(arm, visit))
        return np.array([one["index"] for one in answer["results"]])

    def _rank(self, terms: Mapping[str, object], stories: Ints, time: int, reader: str) -> Json:
        """time: in seconds since the first day began."""
        body = {
            "reader_id": reader,
            "candidates": [{"id": self.site.ids[index]} for index in stories],
            "time": self.start + time,
            "degraded": "refuse",
            **terms,
        }
        return self.site.call("POST", "/rank", body)

    def _check_arms(self) -> None:
        """Before much is sent. Raises ReplayError if an arm's model can't be asked."""
        for arm, terms in self.arms.items():
            if terms is None:
                continue
            answer = self._rank(terms, np.arange(1), 0, f"{arm}-check")
            if not terms and not answer["ranker"]:
                raise ReplayError(f"{arm}: model {answer['model']} has no ranker")

    def _note(self, arm: str, visit: Visit, order: Ints) -> Outcome:
        """Show the list; the impression and the clicks are told with those of the same step."""
        reader = self._reader_id(arm, visit)
        outcome = show(self.world, visit, order, self.read[reader])
        first = visit.candidates[order[: len(outcome.clicked)]]
        self.read[reader].update(first[outcome.clicked].tolist())
        shown = [self.site.ids[index] for index in first]
        name, at = f"{reader}-{next(self.numbers)}", self.start + visit.time
        event = {"id": name, "time": at, "reader_id": reader}
        self.site.waiting.append({**event, "type": "impression", "stories": shown})
        for place in np.flatnonzero(outcome.clicked).tolist():
            click = {"type": "click", "id": f"{name}-{place}", "story": shown[place]}
            when = {"time": at + READ_S * (place + 1), "impression_id": name}
            self.site.waiting.append({**event, **click, **when})
        return outcome


def as_drawn(visit: Visit) -> Ints:
    """A random order."""
    return np.arange(len(visit.candidates))


def simulate(
    client: httpx.Client,
    seed: int,
    size: Size,
    arms: Mapping[str, Arm] = ARMS,
    nightly: Callable[[Night], None] | None = None,
) -> list[Row]:
    """One seed's week, which ended last midnight in UTC. client: of a service whose store knows
    nothing of this seed's readers. Raises ReplayError or httpx.HTTPError."""
    return list(Week(client, World(seed, size), arms, time.time()).run(nightly))
