"""A running Frontpage service, asked over HTTP as its clients ask it."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from openai import (
    APIConnectionError,
    APIStatusError,
    BadRequestError,
    OpenAI,
    UnprocessableEntityError,
)
from openai.types.chat import ChatCompletionMessageParam

from app.scoring.profile import Profile
from app.scoring.wording import Story, chat_messages, chat_parts
from training.data.prepared import Impression
from training.errors import TrainingError
from training.evaluation.backends.base import MAX_TOKENS, TEMPERATURE, Answers
from training.progress import say

Item = TypeVar("Item")
Result = TypeVar("Result")
Sent = dict[str, str]
"""A story as the service's routes take it."""

CUT_TO, SHORTEST = 0.9, 64
"""A title that is too long for the service loses a tenth until it fits or has so few characters."""


class ServiceBackend:
    concurrent = True
    chunk = 64

    def __init__(self, name: str, url: str, profile: Profile | None, concurrency: int) -> None:
        """name: the service's name for the model. profile: how chat messages are worded; None for
        the original project's wording. concurrency: how many calls run at once. The service's key
        is taken from OPENAI_API_KEY. Raises TrainingError for a layout that is not a chat."""
        self.profile = profile
        self.name = name
        self.url = url.rstrip("/")
        self.concurrency = concurrency
        self.wording = profile or Profile()
        try:
            chat_parts(self.wording.chat_layout or self.wording.layout)
        except ValueError as error:
            raise TrainingError(str(error)) from None
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self.cut: list[Sent] = []
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key=key)

    def score(self, impressions: Sequence[Impression]) -> list[Answers]:
        return self._map(self._rank, impressions)

    def write(self, samples: Sequence[Impression]) -> list[str]:
        return self._map(self._chat, samples)

    def close(self) -> None:
        if self.cut:
            say(f"{len(self.cut):,} titles too long for {self.url}: cut")
        self.client.close()

    def _map(self, ask: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Ask about each item by itself, `concurrency` at a time."""
        try:
            if len(items) == 1:
                return [ask(items[0])]
            with ThreadPoolExecutor(self.concurrency) as pool:
                return list(pool.map(ask, items))
        except APIConnectionError as error:
            raise TrainingError(
                f"no answer from {self.url} ({error}): is the service running there? See --url"
            ) from error
        except APIStatusError as error:
            raise TrainingError(f"{self.url}, model {self.name}: {error.message}") from error

    def _rank(self, impression: Impression) -> Answers:
        reader = impression.reader
        body: dict[str, Any] = {
            "model": self.name,
            "history": stories(reader.history),
            "liked": stories(reader.liked),
            "disliked": stories(reader.disliked),
            "candidates": stories(impression.candidates),
        }

        def ask() -> Any:
            # The SDK's way to a route that it has no method for. It adds key, retries and timeout.
            return self.client.post(f"{self.url}/rank", cast_to=object, body=body)

        found = self._cut_until_taken(ask, lambda error: named_story(body, error))
        results = sorted(found["results"], key=lambda result: result["index"])
        if [result["index"] for result in results] != list(range(len(impression.candidates))):
            raise TrainingError(
                f"{self.url}/rank answered {len(results)} of {len(impression.candidates)} "
                f"candidates of impression {impression.id}"
            )
        return Answers(
            np.array([result["probability"] for result in results]),
            np.array([result["label_mass"] for result in results]),
            [result["label"] for result in results],
        )

    def _chat(self, sample: Impression) -> str:
        (sent,) = stories(sample.candidates[:1])

        def ask() -> str:
            target = replace(sample.candidates[0], title=sent["title"])
            answer = self.client.chat.completions.create(
                model=self.name,
                messages=self.messages(replace(sample, candidates=[target])),
                temperature=TEMPERATURE,
                max_tokens=MAX_TOKENS,
            )
            return answer.choices[0].message.content or ""

        return self._cut_until_taken(ask, lambda error: sent if is_too_long(error) else None)

    def _cut_until_taken(
        self, ask: Callable[[], Result], find: Callable[[APIStatusError], Sent | None]
    ) -> Result:
        """Cut the title of the story that `find` finds at fault, and ask again, as often as it
        helps. Other backends cut titles too, but know how long they may be."""
        while True:
            try:
                return ask()
            except APIStatusError as error:
                story = find(error)
                if story is None or len(story["title"]) <= SHORTEST:
                    raise
                if not any(story is one for one in self.cut):
                    self.cut.append(story)
                story["title"] = story["title"][: int(len(story["title"]) * CUT_TO)]

    def messages(self, sample: Impression) -> list[ChatCompletionMessageParam]:
        """The prompt of a sample's first candidate, as a system and a user message."""
        asked = chat_messages(self.wording, sample.reader, sample.candidates[0])
        return cast(list[ChatCompletionMessageParam], asked)


def named_story(body: dict[str, Any], error: APIStatusError) -> Sent | None:
    """The story of a /rank that an error names, as in `candidates.3` or `history.0.title`."""
    if not isinstance(error, UnprocessableEntityError):
        return None
    name, _, rest = (error.param or "").partition(".")
    number, found = rest.partition(".")[0], body.get(name)
    if not isinstance(found, list) or not number.isdigit() or int(number) >= len(found):
        return None
    return cast(Sent, found[int(number)])


def is_too_long(error: APIStatusError) -> bool:
    """Whether a chat was refused because its messages do not fit into the model's context."""
    return isinstance(error, BadRequestError) and "context length" in error.message


def stories(given: Iterable[Story]) -> list[Sent]:
    """Stories as the service's routes take them."""
    return [
        {"title": story.title, **({"category": story.category} if story.category else {})}
        for story in given
    ]
