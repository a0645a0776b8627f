"""How popular the catalogue's stories are right now, by row."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.live.live import Live
from app.retrieval.catalogue import Catalogue, Floats
from app.retrieval.index import Flags
from app.signals.live import Figures

FRESH_S = 2.0
"""For how many seconds figures count as current."""
AT_ONCE = 5000
"""How many stories' figures are looked up while nobody else can read them."""
RATE_WEIGHT = 0.001
"""How many clicks right now the site's click-through weighs as much as."""


@dataclass(frozen=True, slots=True)
class Popular:
    """score: higher is more popular, [rows]. shown: whether the story was shown before, [rows]."""

    score: Floats
    shown: Flags


class Popularity:
    """Looks up all stories' figures, at most once in FRESH_S. now: the store's clock, in Unix
    seconds."""

    def __init__(self, live: Live, catalogue: Catalogue, now: Callable[[], float]) -> None:
        self._live = live
        self._catalogue = catalogue
        self._now = now
        self._looking = threading.Lock()
        self._found: Popular | None = None
        self._looked = 0.0

    def current(self) -> Popular:
        with self._looking:
            if self._found is None or time.monotonic() - self._looked > FRESH_S:
                self._found = self._look()
                self._looked = time.monotonic()
            return self._found

    def _look(self) -> Popular:
        ids, now = self._catalogue.ids(), self._now()
        score, shown = np.zeros(len(ids)), np.zeros(len(ids), np.bool_)
        for start in range(0, len(ids), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            names = ids[part]
            found = self._live.figures(names, [None] * len(names), now)
            score[part], shown[part] = popularity(found), found.shown > 0
        return Popular(score, shown)


def popularity(found: Figures) -> Floats:
    """How much stories are clicked right now, [stories]; among those that have not been clicked for
    some hours, by click-through over the site's."""
    return found.recent_clicks + RATE_WEIGHT * found.rate() / found.site_rate
