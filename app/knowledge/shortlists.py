"""How many candidates the language model judges: fewer while it is busy, or if time is short."""

import asyncio
from dataclasses import dataclass

from app.admission import Admission
from app.settings import Settings

DEFAULT = 20
"""On MIND the order is then as good as if all were judged: docs/performance.md."""
BUSY = 0.5
"""From this share of the tokens allowed on, shortlists shrink."""
SMOOTH = 0.1
"""The weight of the newest request in what is known of the engine's pace."""
LAST_S = 0.1
"""How long before a request's deadline the language model must have answered."""


@dataclass(slots=True)
class Pace:
    """tokens_per_s: of all requests together while they are at work. tokens_per_story: to compute,
    of the story's own and its share of the reader's. Both unknown at first."""

    tokens_per_s: float | None = None
    tokens_per_story: float | None = None

    def observe(self, tokens: int, stories: int, at_work: int, seconds: float) -> None:
        """at_work: tokens that were in progress when the request came, its own included."""
        if tokens and seconds > 0:
            self.tokens_per_s = smooth(self.tokens_per_s, at_work / seconds)
            self.tokens_per_story = smooth(self.tokens_per_story, tokens / stories)

    def stories_within(self, seconds: float, waiting: int) -> float:
        """How many stories can be judged so soon behind the tokens in progress."""
        if self.tokens_per_s is None or self.tokens_per_story is None:
            return float("inf")
        return (seconds * self.tokens_per_s - waiting) / self.tokens_per_story


class Shortlists:
    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._settings = settings
        self._admission = admission
        self.pace = Pace()

    def usual(self, profile_says: int | None) -> int:
        """The length for a request that asks for none."""
        return self._settings.shortlist or profile_says or DEFAULT

    def length(self, wanted: int, deadline: float | None) -> tuple[int, str]:
        """How many candidates to judge, and what limits them: shortlist, load or deadline.

        deadline: on the event loop's clock.
        """
        least = self._settings.shortlist_least
        if least is None or least >= wanted:
            return wanted, "shortlist"
        found, reason = wanted, "shortlist"
        free = min(max((1 - self._admission.load) / (1 - BUSY), 0.0), 1.0)
        if free < 1:
            found, reason = round(least + (wanted - least) * free), "load"
        if deadline is not None:
            left = deadline - LAST_S - asyncio.get_running_loop().time()
            possible = max(self.pace.stories_within(left, self._admission.in_progress), least)
            if possible < found:
                found, reason = int(possible), "deadline"
        return found, reason


def smooth(known: float | None, new: float) -> float:
    return new if known is None else known + SMOOTH * (new - known)
