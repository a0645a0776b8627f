"""What was known of each impression's candidates at that moment, from a log in the order of time.

Live figures are what app.signals makes of the strictly earlier impressions; impressions of the same
moment don't see each other. A test compares them with those of app.signals itself, event by event.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.likeness.cosine import COSINES, cosines
from app.ranker.features import Floats, Known, features
from app.signals.counters import CLICKS, EXPOSURE, RECENT_CLICKS, RECENT_EXPOSURE, HalfLives
from app.signals.live import PRIOR_RATE, PRIOR_SHOWN, Figures
from training.metrics import Flags
from training.ranking.earlier import (
    SHOWN,
    EarlierSums,
    Events,
    Ints,
    ReaderGate,
    make_events,
    starts,
)
from training.ranking.log import Lists, Log, Part

Vectors = NDArray[np.float32]

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
SLOW_SUMS = 2
"""Clicks and exposure: all that is asked of categories and of the site."""
HALF_LIVES_A_PART = 8
"""How many of the shortest half-life a part of the log may last: sums would lose digits."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All stories by index. vectors: [stories, width]; None without a sentence encoder."""

    categories: Sequence[str | None]
    vectors: Vectors | None


@dataclass(frozen=True, slots=True)
class Moments:
    """Some impressions, one after the other. rows: their numbers in the log. matrix: [candidates,
    features], without tower and text. clicked: [candidates]. shown: impressions of each candidate
    so far. sizes: candidates of each impression."""

    rows: Ints
    matrix: Vectors
    clicked: Flags
    shown: Floats
    sizes: Ints


class Replay:
    """Reads a log and yields its impressions' features, counting as it goes."""

    def __init__(self, catalogue: Catalogue, half_lives: HalfLives) -> None:
        self.catalogue = catalogue
        self.half_lives = half_lives
        numbers = {name: n for n, name in enumerate(dict.fromkeys(catalogue.categories)) if name}
        self.nameless = 1 + max(numbers.values(), default=-1)
        named = (numbers.get(name or "", self.nameless) for name in catalogue.categories)
        self.category = np.fromiter(named, np.int64, len(catalogue.categories))
        self.stories = EarlierSums(len(self.category))
        self.categories = EarlierSums(self.nameless + 1, SLOW_SUMS)
        self.site = EarlierSums(1, SLOW_SUMS)
        self.shown_gate, self.click_gate = ReaderGate(), ReaderGate()
        self.at = 0.0

    def moments(self, log: Log, kept: Flags) -> Iterator[Moments]:
        """The kept impressions in the order of time; all others are counted too. kept:
        [impressions], some of those with labels."""
        for part in log.parts(self.longest_ms()):
            events = self.count(log, part)
            own = kept[part.start : part.end]
            if own.any():
                yield self.describe(log, part, events, own)
            for sums, keys in self.keyed(part):
                sums.add(keys, events)

    def longest_ms(self) -> int:
        """How long a part of the log may last."""
        lives = (self.half_lives.slow_s, self.half_lives.recent_s)
        shortest = min((life for life in lives if life is not None), default=float(DAY_MS))
        return max(1, int(1000 * HALF_LIVES_A_PART * shortest))

    def keyed(self, part: Part) -> list[tuple[EarlierSums, Ints]]:
        """The sums of stories, categories and the site, with each candidate's key in them."""
        story = part.shown.values
        keys = (story, self.category[story], np.zeros_like(story))
        return list(zip((self.stories, self.categories, self.site), keys, strict=True))

    def count(self, log: Log, part: Part) -> Events:
        """What of a part's candidates counts, from where all sums are decayed to its start."""
        sizes, times = part.shown.sizes, log.times[part.start : part.end]
        at = np.repeat(times, sizes)
        readers = np.repeat(log.users[part.start : part.end].astype(np.int64), sizes)
        pairs = readers * len(self.category) + part.shown.values
        clicked = part.clicked.copy()
        clicked[clicked] = self.click_gate.count(pairs[clicked], at[clicked])
        counted = self.shown_gate.count(pairs, at), clicked
        start = float(times[0] // 1000)
        slow, recent = self.half_lives.kept(np.array([start - self.at]))
        for sums in (self.stories, self.categories, self.site):
            sums.decay(float(slow[0]), float(recent[0]))
        self.at = start
        moment = np.repeat(np.cumsum(starts(times), dtype=np.int64), sizes)
        return make_events(moment, (at // 1000).astype(np.float64), counted, start, self.half_lives)

    def describe(self, log: Log, part: Part, events: Events, kept: Flags) -> Moments:
        """The kept impressions of a part as they stand before they are counted."""
        wanted = np.repeat(kept, part.shown.sizes)
        shown = Lists(part.shown.values[wanted], part.shown.sizes[kept])
        times = log.times[part.start : part.end][kept]
        figures = self.figures(part, events, wanted, np.repeat(times / 1000, shown.sizes))
        history, liked, disliked = log.lists(part, kept, "history", "liked", "disliked")
        hours = times // HOUR_MS % 24 + times // MINUTE_MS % 60 / 60
        known = Known(
            figures=figures,
            cosines=self.cosines(history, shown),
            tower=None,
            category_count=self.count_categories(history, shown),
            history_length=np.repeat(history.sizes, shown.sizes).astype(np.float64),
            times_passed=count_matches(shown, disliked),
            times_clicked=count_matches(shown, liked),
            hour=np.repeat(hours, shown.sizes),
        )
        return Moments(
            part.start + np.flatnonzero(kept),
            features(known).astype(np.float32),
            part.clicked[wanted],
            figures.shown,
            shown.sizes,
        )

    def figures(self, part: Part, events: Events, wanted: Flags, now: Floats) -> Figures:
        """What is known of the wanted candidates. Clicks are in those of an average story, so that
        the site's click-through, which changes with time, is 1. now: Unix seconds, [wanted]."""
        (own, first), (group, _), (site, _) = (
            sums.before(keys, events, wanted) for sums, keys in self.keyed(part)
        )
        group[:, self.category[part.shown.values[wanted]] == self.nameless] = 0
        slow, recent = self.half_lives.kept(now - self.at)
        site_rate = (site[CLICKS] * slow + PRIOR_RATE * PRIOR_SHOWN) / (
            site[EXPOSURE] * slow + PRIOR_SHOWN
        )
        return Figures(
            clicks=own[CLICKS] * slow / site_rate,
            exposure=own[EXPOSURE] * slow,
            recent_clicks=own[RECENT_CLICKS] * recent / site_rate,
            recent_exposure=own[RECENT_EXPOSURE] * recent,
            shown=own[SHOWN],
            age_s=np.where(np.isinf(first), 0.0, np.maximum(now - first, 0.0)),
            category_clicks=group[CLICKS] * slow / site_rate,
            category_exposure=group[EXPOSURE] * slow,
            site_rate=1.0,
        )

    def count_categories(self, history: Lists, shown: Lists) -> Floats:
        """How many of the history's stories are of each candidate's category."""
        of_history = Lists(self.category[history.values], history.sizes)
        of_shown = Lists(self.category[shown.values], shown.sizes)
        found = count_matches(of_shown, of_history)
        found[of_shown.values == self.nameless] = 0
        return found

    def cosines(self, history: Lists, shown: Lists) -> Floats | None:
        """The candidates' cosines with the history."""
        vectors = self.catalogue.vectors
        if vectors is None:
            return None
        found = np.empty((len(shown.values), COSINES))
        end = 0
        for titles, stories in zip(history.split(), shown.split(), strict=True):
            start, end = end, end + len(stories)
            found[start:end] = cosines(vectors[titles], vectors[stories])
        return found


def count_matches(wanted: Lists, stories: Lists) -> Floats:
    """How often each entry of the wanted lists is in the list of the same number: [entries]."""
    width = 1 + max(wanted.values.max(initial=0), stories.values.max(initial=0))
    keys, counts = np.unique(stories.rows() * width + stories.values, return_counts=True)
    own = wanted.rows() * width + wanted.values
    place = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
    if not len(keys):
        return np.zeros(len(own))
    return np.where(keys[place] == own, counts[place], 0).astype(np.float64)
