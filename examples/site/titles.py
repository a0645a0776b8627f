"""Titles that look real: who and what of a topic, all different."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

FILE = Path(__file__).with_name("topics.yaml")
FRAMES = ("{}", "{}", "{}", "{}, reports say", "Watch: {}", "This week: {}", "Opinion: {}")


@dataclass(frozen=True, slots=True)
class Topic:
    """topic: its name. who, what: the parts of its titles, each of which fits each."""

    topic: str
    category: str
    who: Sequence[str]
    what: Sequence[str]


def read_topics() -> list[Topic]:
    return [Topic(**row) for row in yaml.safe_load(FILE.read_text(encoding="utf-8"))]


class Titles:
    """Draws titles, none of them twice."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._used: set[str] = set()

    def draw(self, topic: Topic) -> str:
        """Raises RuntimeError if the topic's words are used up."""
        for _ in range(10_000):
            who, what, frame = map(self._one_of, (topic.who, topic.what, FRAMES))
            title = frame.format(f"{who} {what}")
            if title not in self._used:
                self._used.add(title)
                return title
        raise RuntimeError(f"no new title is left for {topic.topic}: simulate fewer stories")

    def _one_of(self, words: Sequence[str]) -> str:
        return words[int(self._random.integers(len(words)))]
