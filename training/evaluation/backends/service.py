"""A running Frontpage service, asked over HTTP as its clients ask it."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
from openai import APIConnectionError, APIStatusError, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from app.scoring.profile import Profile
from app.scoring.wording import Story, chat_messages, chat_parts
from training.data.prepared import Impression
from training.errors import TrainingError
from training.evaluation.backends.base import MAX_TOKENS, TEMPERATURE, Answers

Item = TypeVar("Item")
Result = TypeVar("Result")


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
            chat_parts(self.wording.layout)
        except ValueError as error:
            raise TrainingError(str(error)) from None
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key=key)

    def score(self, impressions: Sequence[Impression]) -> list[Answers]:
        return self._map(self._rank, impressions)

    def write(self, samples: Sequence[Impression]) -> list[str]:
        return self._map(self._chat, samples)

    def close(self) -> None:
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
        body = {
            "model": self.name,
            "history": stories(reader.history),
            "liked": stories(reader.liked),
            "disliked": stories(reader.disliked),
            "candidates": stories(impression.candidates),
        }
        # The SDK's own way to a route that it has no method for. It adds key, retries and timeout.
        found: Any = self.client.post(f"{self.url}/rank", cast_to=object, body=body)
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
        answer = self.client.chat.completions.create(
            model=self.name,
            messages=self.messages(sample),
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
        )
        return answer.choices[0].message.content or ""

    def messages(self, sample: Impression) -> list[ChatCompletionMessageParam]:
        """The prompt of a sample's first candidate, as a system and a user message."""
        asked = chat_messages(self.wording, sample.reader, sample.candidates[0])
        return cast(list[ChatCompletionMessageParam], asked)


def stories(given: Iterable[Story]) -> list[dict[str, str]]:
    """Stories as the service's routes take them."""
    return [
        {"title": story.title, **({"category": story.category} if story.category else {})}
        for story in given
    ]
