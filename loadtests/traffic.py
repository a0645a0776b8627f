"""Requests like those of a news site: returning readers, each with their own history.

How often each reader returns follows Zipf's law, so a prefix cache sees a few readers often and
most of them rarely. Titles come from a MIND folder. The lengths of histories and candidate lists
have MIND's long tails: in MINDsmall_train their medians are 18 and 24, and a tenth are over 76 and
93. Everything follows from the seed.
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

EXAMPLE_MIND = Path(__file__).parents[1] / "examples" / "mind" / "train"
CANDIDATE_POOL = 1000
"""How many stories are recent enough to be candidates. Histories hold older stories too."""
CANDIDATE_COUNTS, HISTORY_LENGTHS = (5, 300), (0, 100)
"""The smallest and the largest number of candidates and of clicked stories."""
ORIGINAL_PROFILE = Profile()
"""The prompt of the original project."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send. stories: how many stories it asks about."""

    path: str
    body: bytes
    stories: int


@dataclass(frozen=True, slots=True)
class Visitor:
    """A reader, prepared once in the forms that requests need."""

    fields: bytes  # of /predict and /rank: JSON without the braces, ending in a comma
    chat: dict[str, Any]  # the fields shared by all of the reader's chat requests
    reader: Reader


class Traffic:
    """An endless supply of requests of each kind."""

    def __init__(
        self,
        mind: Path = EXAMPLE_MIND,
        readers: int = 1000,
        models: Sequence[str] = (),
        seed: int = 0,
        part: int = 0,
    ) -> None:
        """Prepare the readers and the candidates.

        mind: a folder with MIND's news.tsv. models: each reader always asks for the same one of
        these; if empty, requests name no model. part: another part is another sequence of requests
        by the same readers. Raises ValueError if the folder cannot be used.
        """
        made = Random(f"readers {seed}")
        stories = read_stories(mind, made)
        made.shuffle(stories)
        choice = models or (None,)
        self.visitors = [
            make_visitor(stories, made, choice[number % len(choice)]) for number in range(readers)
        ]
        self.weights = list(accumulate(1 / place for place in range(1, readers + 1)))
        self.candidates = [
            (story, story_json(number, story)) for number, story in enumerate(stories)
        ]
        del self.candidates[CANDIDATE_POOL:]
        self.random = Random(f"requests {seed} {part}")

    def predict(self) -> Request:
        visitor, (_, target) = self._visitor(), self.random.choice(self.candidates)
        return Request("/predict", b'{%b"target":%b}' % (visitor.fields, target), 1)

    def rank(self) -> Request:
        visitor, count = self._visitor(), long_tailed(self.random, 25, 0.95, CANDIDATE_COUNTS)
        listed = b",".join(shown for _, shown in self.random.sample(self.candidates, count))
        asked = b'"shortlist":"all","candidates":[%b]' % listed
        return Request("/rank", b"{%b%b}" % (visitor.fields, asked), count)

    def chat(self) -> Request:
        """The chat request of the original project, word for word."""
        visitor, (target, _) = self._visitor(), self.random.choice(self.candidates)
        messages = chat_messages(ORIGINAL_PROFILE, visitor.reader, target)
        body = json.dumps({**visitor.chat, "messages": messages})
        return Request("/v1/chat/completions", body.encode(), 1)

    def _visitor(self) -> Visitor:
        return self.random.choices(self.visitors, cum_weights=self.weights)[0]


def read_stories(mind: Path, random: Random) -> list[Story]:
    """The folder's stories, each title once.

    If there are fewer than CANDIDATE_POOL, more are made by joining halves of two titles. Raises
    ValueError if the folder cannot be read or has too few titles even for that.
    """
    try:
        with (mind / "news.tsv").open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            found = {row[3]: Story(row[3], row[1]) for row in rows if row[3]}
    except (OSError, IndexError) as error:
        raise ValueError(f"{mind} is no MIND folder: news.tsv: {error}") from None
    stories = list(found.values())
    if len(stories) < CANDIDATE_POOL:
        pairs = list(permutations(stories, 2))
        more = random.sample(pairs, min(len(pairs), CANDIDATE_POOL - len(stories)))
        stories += [mix(first, second) for first, second in more]
    if len(stories) < CANDIDATE_COUNTS[1]:
        raise ValueError(f"{mind / 'news.tsv'} has {len(found)} titles; at least 18 are needed")
    return stories


def mix(first: Story, second: Story) -> Story:
    """A story whose title begins like the first and ends like the second."""
    begin, end = first.title.split(), second.title.split()
    words = begin[: (len(begin) + 1) // 2] + end[len(end) // 2 :]
    return Story(" ".join(words), first.category)


def make_visitor(stories: Sequence[Story], random: Random, model: str | None) -> Visitor:
    count = min(long_tailed(random, 18, 1.15, HISTORY_LENGTHS), len(stories))
    counts = {"history": count, "liked": random.randint(0, 3), "disliked": random.randint(0, 3)}
    lists = {name: random.sample(stories, count) for name, count in counts.items()}
    named = {"model": model} if model else {}
    sent: dict[str, Any] = {
        name: [story.title for story in listed] for name, listed in lists.items()
    }
    sent["degraded"] = "refuse"  # what is measured is the language model
    chat = {**named, "temperature": 0.01, "max_tokens": 10}
    return Visitor(json.dumps(named | sent).encode()[1:-1] + b",", chat, Reader(*lists.values()))


def story_json(number: int, story: Story) -> bytes:
    fields = {"id": f"S{number}", "title": story.title, "category": story.category}
    return json.dumps(fields).encode()


def long_tailed(random: Random, median: float, spread: float, limits: tuple[int, int]) -> int:
    """A log-normally distributed number, clipped to the limits."""
    least, most = limits
    return min(max(round(random.lognormvariate(math.log(median), spread)), least), most)
