"""Traffic as a news site sends it: readers who come back, each with a history of their own.

Who comes follows Zipf's law, so a prefix cache meets some readers often and most of them rarely.
Titles are a MIND folder's. Histories and lists of candidates have MIND's long tails (in
MINDsmall_train their median is 18 and 24, a tenth is over 76 and 93). All follows from the seed.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, permutations
from pathlib import Path
from random import Random
from typing import Any

from app.scoring.profile import Profile
from app.scoring.wording import Reader, Story, chat_messages

EXAMPLE = Path(__file__).parents[1] / "examples" / "mind" / "train"
FRESH = 1000
"""Stories that are candidates; histories hold older ones too."""
CANDIDATES, HISTORY = (5, 300), (0, 100)
ORIGINAL = Profile()
"""The original project's words."""


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    body: bytes
    stories: int


@dataclass(frozen=True, slots=True)
class Visitor:
    """A reader in the forms that requests need, made once."""

    fields: bytes  # of /predict and /rank, as JSON without its braces
    chat: dict[str, Any]  # what is the same in all its chat requests
    reader: Reader


class Traffic:
    """Endless requests of each kind."""

    def __init__(
        self,
        mind: Path = EXAMPLE,
        readers: int = 1000,
        models: Sequence[str] = (),
        seed: int = 0,
        part: int = 0,
    ) -> None:
        """mind: a folder with MIND's news.tsv; ValueError if it won't do. models: each reader keeps
        one; without them requests name none. part: other requests of the same readers."""
        made = Random(f"readers {seed}")
        stories = read_stories(mind, made)
        made.shuffle(stories)
        choice = models or (None,)
        self.visitors = [
            make_visitor(stories, made, choice[number % len(choice)]) for number in range(readers)
        ]
        self.weights = list(accumulate(1 / place for place in range(1, readers + 1)))
        self.fresh = [(story, story_json(number, story)) for number, story in enumerate(stories)]
        del self.fresh[FRESH:]
        self.random = Random(f"requests {seed} {part}")

    def predict(self) -> Request:
        visitor, (_, target) = self._visitor(), self.random.choice(self.fresh)
        return Request("/predict", b'{%b"target":%b}' % (visitor.fields, target), 1)

    def rank(self) -> Request:
        visitor, count = self._visitor(), long_tailed(self.random, 25, 0.95, CANDIDATES)
        listed = b",".join(shown for _, shown in self.random.sample(self.fresh, count))
        return Request("/rank", b'{%b"candidates":[%b]}' % (visitor.fields, listed), count)

    def chat(self) -> Request:
        """What the original project asks, in its words."""
        visitor, (target, _) = self._visitor(), self.random.choice(self.fresh)
        messages = chat_messages(ORIGINAL, visitor.reader, target)
        body = json.dumps({**visitor.chat, "messages": messages})
        return Request("/v1/chat/completions", body.encode(), 1)

    def _visitor(self) -> Visitor:
        return self.random.choices(self.visitors, cum_weights=self.weights)[0]


def read_stories(mind: Path, random: Random) -> list[Story]:
    """The folder's stories, each title once. Where they are too few, halves of two make more."""
    try:
        with (mind / "news.tsv").open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            found = {row[3]: Story(row[3], row[1]) for row in rows if row[3]}
    except (OSError, IndexError) as error:
        raise ValueError(f"{mind} is no MIND folder: news.tsv: {error}") from None
    stories = list(found.values())
    if len(stories) < FRESH:
        pairs = list(permutations(stories, 2))
        more = random.sample(pairs, min(len(pairs), FRESH - len(stories)))
        stories += [mix(first, second) for first, second in more]
    if len(stories) < CANDIDATES[1]:
        raise ValueError(f"{mind / 'news.tsv'} has {len(found)} titles; at least 18 are needed")
    return stories


def mix(first: Story, second: Story) -> Story:
    begin, end = first.title.split(), second.title.split()
    words = begin[: (len(begin) + 1) // 2] + end[len(end) // 2 :]
    return Story(" ".join(words), first.category)


def make_visitor(stories: Sequence[Story], random: Random, model: str | None) -> Visitor:
    count = min(long_tailed(random, 18, 1.15, HISTORY), len(stories))
    counts = {"history": count, "liked": random.randint(0, 3), "disliked": random.randint(0, 3)}
    lists = {name: random.sample(stories, count) for name, count in counts.items()}
    named = {"model": model} if model else {}
    sent = {name: [story.title for story in listed] for name, listed in lists.items()}
    chat = {**named, "temperature": 0.01, "max_tokens": 10}
    return Visitor(json.dumps(named | sent).encode()[1:-1] + b",", chat, Reader(**lists))


def story_json(number: int, story: Story) -> bytes:
    fields = {"id": f"S{number}", "title": story.title, "category": story.category}
    return json.dumps(fields).encode()


def long_tailed(random: Random, median: float, spread: float, limits: tuple[int, int]) -> int:
    """A log-normal number, moved to the nearest limit if it is beyond."""
    least, most = limits
    return min(max(round(random.lognormvariate(math.log(median), spread)), least), most)
