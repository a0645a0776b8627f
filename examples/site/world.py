"""The invented world: stories, readers with tastes, their visits, and the truth of their clicks.

A reader who looks at a story clicks it with a probability of

  BASE x appeal of the story x the reader's taste for its topic x 0.5^(age / HALF_LIFE_H)

and looks at the story at place k (from 0) with a probability of EXAMINED[k]. Tastes for
categories and topics are normal, drift from day to day, and count as exp(taste - variance / 2), so
that the average reader's factor is 1. A story is on the site for a day, and nobody clicks it twice.

The same seed makes the same world. Nothing in it depends on what the service answers, not even the
luck of a click.
"""

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from examples.site.titles import Titles, read_topics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHOWN = 10
EXAMINED: Floats = np.power(0.85, np.arange(SHOWN, dtype=np.float64))
BASE, CEILING = 0.25, 0.9
POISON = 0.3
"""The probability of a click by a reader who clicks at random, on any story shown."""
APPEAL_SPREAD = 0.7
"""Standard deviation of ln(appeal), whose mean appeal is 1."""
CATEGORY_SPREAD, TOPIC_SPREAD = 0.6, 0.6
"""Standard deviations of the two parts of a taste."""
KEPT = 0.97
"""The correlation of a taste with the day before's."""
HALF_LIFE_H, ALIVE_H = 8.0, 24.0
AWAKE_H = (6, 23)
"""Between which hours of the day readers come, in UTC."""
HOUR_S, DAY_S = 3600, 86400


@dataclass(frozen=True, slots=True)
class Size:
    """readers: who are measured, in each arm. crowd: further readers, who see a random order, from
    the day before the measured ones on. days: that are measured. before: days before these, on
    which all see a random order. stories: published a day. visits: of a reader a day, on average.
    candidates: of which a visit shows SHOWN; drawn from the stories alive. poisoned: the day, of
    those measured and from 1, on which every other reader clicks at random."""

    readers: int = 30
    crowd: int = 2000
    days: int = 7
    before: int = 7
    stories: int = 40
    visits: float = 2.0
    candidates: int = 30
    poisoned: int | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """topic: its index. published: in seconds since the first day began."""

    title: str
    category: str
    topic: int
    appeal: float
    published: int


@dataclass(frozen=True, slots=True)
class Visit:
    """A reader opens the site. day: from 0, the days before included. time: in seconds since the
    first day began. candidates: indices of stories in a random order. luck: of each candidate,
    between 0 and 1; a click needs less than its probability."""

    reader: int
    day: int
    time: int
    candidates: Ints
    luck: Floats


class World:
    def __init__(self, seed: int, size: Size) -> None:
        self.seed, self.size = seed, size
        self.topics = read_topics()
        self.stories = self._publish(np.random.default_rng([seed, 0]))
        self.tastes = self._drift(np.random.default_rng([seed, 1]))

    @property
    def all_days(self) -> int:
        return self.size.before + self.size.days

    def _publish(self, random: np.random.Generator) -> list[Story]:
        """In the order of time, from a day before the first, so that the first has stories."""
        titles = Titles(random)
        count = self.size.stories * (self.all_days + 1)
        times = np.sort(random.integers(-DAY_S, self.all_days * DAY_S, count))
        found = []
        for time in times.tolist():
            place = int(random.integers(len(self.topics)))
            topic, appeal = self.topics[place], factor(random.normal(), APPEAL_SPREAD)
            found.append(Story(titles.draw(topic), topic.category, place, float(appeal), time))
        return found

    def _drift(self, random: np.random.Generator) -> Floats:
        """ln of the tastes: [days, readers, topics], those of the crowd last."""
        readers = self.size.readers + self.size.crowd
        names = sorted({topic.category for topic in self.topics})
        of_topic = [names.index(topic.category) for topic in self.topics]

        def draw() -> Floats:
            wide = random.normal(size=(readers, len(names)))[:, of_topic]
            narrow = random.normal(size=(readers, len(self.topics)))
            return CATEGORY_SPREAD * wide + TOPIC_SPREAD * narrow

        days = [draw()]
        for _ in range(1, self.all_days):
            days.append(KEPT * days[-1] + np.sqrt(1 - KEPT**2) * draw())
        return np.array(days) - (CATEGORY_SPREAD**2 + TOPIC_SPREAD**2) / 2

    @cached_property
    def _published(self) -> Ints:
        return np.array([story.published for story in self.stories])

    @cached_property
    def _appeal(self) -> Floats:
        return np.array([story.appeal for story in self.stories])

    @cached_property
    def _topic(self) -> Ints:
        return np.array([story.topic for story in self.stories])

    def is_poisoned(self, visit: Visit) -> bool:
        """Whether the reader clicks at random."""
        poisoned = self.size.poisoned
        return poisoned == visit.day - self.size.before + 1 and visit.reader % 2 == 0

    def published(self, start: float, end: float) -> Ints:
        """Indices of the stories published from `start` until before `end`."""
        return np.arange(*np.searchsorted(self._published, (start, end)))

    def visits(self, day: int) -> list[Visit]:
        """All readers' visits of a day, in the order of time."""
        random = np.random.default_rng([self.seed, 2, day])
        crowd = self.size.crowd if day >= self.size.before - 1 else 0
        counts = random.poisson(self.size.visits, self.size.readers + crowd)
        readers = np.repeat(np.arange(len(counts)), counts)
        seconds = random.integers(AWAKE_H[0] * HOUR_S, AWAKE_H[1] * HOUR_S, len(readers))
        found = []
        for place in np.argsort(seconds, kind="stable"):
            time = day * DAY_S + int(seconds[place])
            alive = self.published(time - ALIVE_H * HOUR_S, time)
            chosen = random.permutation(alive)[: self.size.candidates]
            luck = random.random(len(chosen))
            found.append(Visit(int(readers[place]), day, time, chosen, luck))
        return found

    def probabilities(self, visit: Visit) -> Floats:
        """Of a click on each candidate that the reader looks at."""
        stories = visit.candidates
        taste = np.exp(self.tastes[visit.day, visit.reader, self._topic[stories]])
        fresh = 0.5 ** ((visit.time - self._published[stories]) / HOUR_S / HALF_LIFE_H)
        found: Floats = np.minimum(BASE * self._appeal[stories] * taste * fresh, CEILING)
        return found


def factor(normal: float, spread: float) -> float:
    """A factor with mean 1, of a standard normal number."""
    return float(np.exp(spread * normal - spread**2 / 2))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a list. clicked: of each place shown. expected: the mean of their clicks'
    probabilities in these places. auc: of the whole order. The latter two are by the readers'
    tastes, also for one who clicks at random."""

    clicked: NDArray[np.bool_]
    expected: float
    auc: float


def show(world: World, visit: Visit, order: Ints, read: Container[int] = ()) -> Outcome:
    """The reader sees the first SHOWN candidates of an order, given as places among them. read: the
    stories that the reader has clicked before."""
    new = [index not in read for index in visit.candidates.tolist()]
    truth = world.probabilities(visit) * new
    first = order[:SHOWN]
    seen = EXAMINED[: len(first)] * truth[first]
    clicked = visit.luck[first] < (POISON if world.is_poisoned(visit) else seen)
    return Outcome(clicked, float(seen.mean()), expected_auc(truth[order]))


def expected_auc(truth: Floats) -> float:
    """The AUC of an order whose stories' click probabilities are given, the first first: how often
    a clicked story stands before one that is not, if the reader looked at all. It knows no
    places, so it is free of their bias."""
    right = np.triu(np.outer(truth, 1 - truth), 1)
    wrong = np.triu(np.outer(1 - truth, truth), 1)
    return float(right.sum() / (right.sum() + wrong.sum()))
