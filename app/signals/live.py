"""The live figures of stories, categories and positions, from the events so far.

A story's rate compares its clicks with those that the site's average story would have had in the
same places (clicks over expected clicks): an impression weighs by how often the site's readers
click at its position, relative to all positions. Without positions all impressions weigh alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from app.signals.batch import MAX_POSITION, POSITIONS, SITE, Changes, Event, sum_events
from app.signals.counters import (
    CLICKS,
    EXPOSURE,
    FIRST,
    RECENT_CLICKS,
    RECENT_EXPOSURE,
    SHOWN,
    Counters,
    Floats,
    HalfLives,
)
from app.signals.gate import EventGate, GateLimits, Kind

MAX_CATEGORIES = 10_000
PRIOR_SHOWN, PRIOR_RATE = 100.0, 0.04
"""The site's own click-through is PRIOR_RATE until it is known, as if from PRIOR_SHOWN
impressions."""
POSITION_PRIOR = 1000.0
"""With how many impressions of average click-through a position's begins."""
STORY_PRIOR, CATEGORY_PRIOR = 10.0, 100.0
"""With how many impressions of average click-through a story's or category's rate begins."""
MAX_PENDING = 1000
"""How many events wait at most before they reach the counters."""
KINDS = ("stories", "categories", "positions")


@dataclass(frozen=True, slots=True)
class SignalOptions:
    """half_lives: of all counts. max_stories: that are remembered; the least recently shown
    leave. limits: of what one reader and one key can do."""

    half_lives: HalfLives = field(default_factory=HalfLives)
    max_stories: int = 100_000
    limits: GateLimits = field(default_factory=GateLimits)


@dataclass(frozen=True, slots=True)
class ShownStory:
    """A story as it was shown: its id, its category if known, and its position from 0 if known."""

    story: str
    category: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of candidates at a moment; arrays [candidates].

    clicks, exposure: decayed; exposure is in impressions at an average position. recent_clicks,
    recent_exposure: with the short half-life. shown: impressions so far, not decayed. age_s: how
    many seconds ago the story was first shown; 0 for a new one. category_clicks,
    category_exposure: of the candidate's category, decayed. site_rate: the site's clicks an
    impression, a number.
    """

    clicks: Floats
    exposure: Floats
    recent_clicks: Floats
    recent_exposure: Floats
    shown: Floats
    age_s: Floats
    category_clicks: Floats
    category_exposure: Floats
    site_rate: float

    def rate(self) -> Floats:
        """The stories' click-through, shrunk towards the site's, [candidates]."""
        return (self.clicks + STORY_PRIOR * self.site_rate) / (self.exposure + STORY_PRIOR)

    def sampled(self, random: np.random.Generator) -> "Figures":
        """The same with each story's long-term rate drawn from what it may be (Thompson 1933): a
        Gamma distribution with the mean `rate()`. For orders only; probabilities use the mean."""
        shape = np.maximum(self.clicks + STORY_PRIOR * self.site_rate, 1e-9)
        drawn = random.gamma(shape) / (self.exposure + STORY_PRIOR)
        clicks = drawn * (self.exposure + STORY_PRIOR) - STORY_PRIOR * self.site_rate
        return replace(self, clicks=clicks)


class LiveFigures:
    """Counts events, and tells what is known of stories. Not for several threads at once."""

    def __init__(self, options: SignalOptions | None = None) -> None:
        self.options = options or SignalOptions()
        self.gate = EventGate(self.options.limits)
        self._counters = self._empty()
        self._pending: list[Event] = []
        self._categories: dict[str, str | None] = {}

    def __len__(self) -> int:
        """How many stories are known."""
        self._flush()
        return len(self._counters["stories"])

    def shown(self, reader: str, stories: Sequence[ShownStory], at: float, key: str = "") -> None:
        """Count what a reader was shown at a moment in Unix seconds. reader: for an unknown one,
        something that is new with each event. key: the name of the API key that reports it."""
        self._add(Kind.SHOWN, reader, stories, at, key)

    def clicked(self, reader: str, stories: Sequence[ShownStory], at: float, key: str = "") -> None:
        """Count a reader's clicks, like `shown`."""
        self._add(Kind.CLICKED, reader, stories, at, key)

    def taken_back(
        self, reader: str, stories: Sequence[ShownStory], at: float, key: str = ""
    ) -> None:
        """Subtract clicks of a reader. at: when they happened."""
        self._add(Kind.TAKEN_BACK, reader, stories, at, key)

    def figures(
        self, stories: Sequence[str], categories: Sequence[str | None], now: float
    ) -> Figures:
        """What is known at `now` of candidates, given by id and category."""
        self._flush()
        found = self._counters["stories"].read(stories, now)
        names = list({name for name in categories if name})
        table = self._counters["categories"].read(names, now)
        row = {name: number for number, name in enumerate(names)}
        place = np.fromiter((row.get(c or "", -1) for c in categories), np.int64, len(categories))
        groups = np.concatenate([table, np.zeros((1, table.shape[1]))])[place]
        return Figures(
            clicks=found[:, CLICKS],
            exposure=found[:, EXPOSURE],
            recent_clicks=found[:, RECENT_CLICKS],
            recent_exposure=found[:, RECENT_EXPOSURE],
            shown=found[:, SHOWN],
            age_s=np.maximum(now - found[:, FIRST], 0.0),
            category_clicks=groups[:, CLICKS],
            category_exposure=groups[:, EXPOSURE],
            site_rate=self.site_rate(now),
        )

    def site_rate(self, now: float) -> float:
        """The site's clicks an impression."""
        site = self._counters["positions"].read([SITE], now)[0]
        return float((site[CLICKS] + PRIOR_RATE * PRIOR_SHOWN) / (site[EXPOSURE] + PRIOR_SHOWN))

    def position_weights(self, at: float) -> Floats:
        """How much an impression weighs at each position, [MAX_POSITION + 1].

        Of many clicks nobody knows the position, so positions are compared with each other, by the
        clicks whose position is known, and not with the site.
        """
        rows = self._counters["positions"].read(POSITIONS[: MAX_POSITION + 1], at)
        clicks, exposure = rows[:, CLICKS], rows[:, EXPOSURE]
        if not clicks.sum() > 0:
            return np.ones(len(rows))
        mean = clicks.sum() / max(exposure.sum(), 1.0)
        return np.asarray((clicks / mean + POSITION_PRIOR) / (exposure + POSITION_PRIOR))

    def merge(self, changes: Changes) -> None:
        """Add what was counted elsewhere, by `sum_events`."""
        for kind in KINDS:
            if kind in changes:
                self._counters[kind].merge(changes[kind])

    def snapshot(self) -> Changes:
        """Everything that is known."""
        self._flush()
        return {kind: counters.snapshot() for kind, counters in self._counters.items()}

    def restore(self, snapshot: Changes) -> None:
        """Replace everything that is known."""
        self._flush()
        self._counters = self._empty()
        self.merge(snapshot)

    def _empty(self) -> dict[str, Counters]:
        sizes = (self.options.max_stories, MAX_CATEGORIES, MAX_POSITION + 2)
        return {
            kind: Counters(size, self.options.half_lives)
            for kind, size in zip(KINDS, sizes, strict=True)
        }

    def _add(
        self, kind: Kind, reader: str, stories: Sequence[ShownStory], at: float, key: str
    ) -> None:
        names = [one.story for one in stories]
        places = [-1 if one.position is None else one.position for one in stories]
        self._pending.append(Event(reader, names, at, kind, places, key))
        self._categories.update((one.story, one.category) for one in stories)
        if len(self._pending) >= MAX_PENDING:
            self._flush()

    def _flush(self) -> None:
        """Bring what is pending into the counters. Gathering it first makes thousands of events a
        second cheap."""
        if self._pending:
            weights = self.position_weights(self._pending[-1].at)
            self.merge(
                sum_events(
                    self._pending, self.gate, weights, self._categories, self.options.half_lives
                )
            )
            self._pending.clear()
            self._categories.clear()
