"""The interface of an engine and the types that pass through it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.scoring.prompt import Prompt


@dataclass(frozen=True, slots=True)
class LabelScore:
    """The engine's result for one prompt.

    log_yes, log_no: natural log-probabilities of the labels as the next token, over the whole
    vocabulary, with the two logits computed in float32. cached_tokens: how many of the prompt's
    tokens came from the prefix cache. queue_s: how many seconds the prompt waited before the
    engine's first step for it.
    """

    log_yes: float
    log_no: float
    prompt_tokens: int
    cached_tokens: int
    queue_s: float = 0.0


OpenAIAnswer = Mapping[str, Any] | AsyncIterator[str]
"""A complete answer, ready for JSON, or with `stream` the lines of an event stream."""


class OpenAIAPI(Protocol):
    """OpenAI's routes on the same engine.

    `body` is the request's JSON. Its `model` is an adapter's name as in Engine.score, or the base
    model's name. `headers` are the request's headers. The answer contains the model's public name.
    Raises ServiceError.
    """

    async def chat(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer: ...
    async def complete(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer: ...


class Engine(Protocol):
    """A language model that scores prompts.

    Once the engine is dead, its methods raise app.errors.EngineUnavailable.
    """

    async def start(self) -> None:
        """Load the model. Raises app.errors.StartupError, whose message is one line."""

    async def stop(self) -> None: ...

    async def kill(self) -> None:
        """End the engine at once, even while it starts or if it hangs. Whatever waits for it raises
        EngineUnavailable."""

    def check_health(self) -> None:
        """Raises EngineUnavailable if the engine can no longer answer."""

    async def ping(self) -> None:
        """Return once the engine has answered, which it does between two of its steps."""

    @property
    def max_prompt_tokens(self) -> int: ...

    @property
    def openai(self) -> OpenAIAPI | None:
        """OpenAI's routes, or None if the engine can only score."""

    async def use_labels(self, token_ids: Sequence[int]) -> None:
        """Prepare float32 logits for these tokens. Must be called before they are first scored."""

    @property
    def step_tokens(self) -> int:
        """How many prompt tokens the engine computes in one step."""

    @property
    def slice_tokens(self) -> int:
        """How many prompt tokens of one request the engine should get at once by default."""

    async def load_adapter(self, name: str, path: Path) -> None:
        """Load an adapter. Later calls of score() use the same `name`, `public name@version`.

        Raises AdapterRejected.
        """

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter, also one that failed to load."""

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        """Score all prompts concurrently, with one prefill each.

        labels: the token ids of yes and no. adapter: its name, or None for the base model.
        Cancelling the call aborts those of its prompts that the engine has not finished.
        """
