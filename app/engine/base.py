"""What the service needs of an engine, and the small types that go in and out of it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.scoring.prompt import Prompt


@dataclass(frozen=True, slots=True)
class LabelScore:
    """log_yes, log_no: natural log-probabilities of the labels as the next token, over the whole
    vocabulary, with the two logits computed in float32. cached_tokens: of the prompt's tokens,
    those taken from the prefix cache. queue_s: seconds before the engine's first step for it."""

    log_yes: float
    log_no: float
    prompt_tokens: int
    cached_tokens: int
    queue_s: float = 0.0


OpenAIAnswer = Mapping[str, Any] | AsyncIterator[str]
"""A whole answer, ready for JSON; or, with `stream`, the lines of an event stream."""


class OpenAIAPI(Protocol):
    """OpenAI's routes on the same engine.

    `body` is the request's JSON; its model is an adapter as score() has it, or the base model's
    name. `headers` are the request's. The answer says the model's public name. Raises ServiceError.
    """

    async def chat(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer: ...
    async def complete(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer: ...


class Engine(Protocol):
    """A language model that scores prompts. Once dead, all raise app.errors.EngineUnavailable."""

    async def start(self) -> None:
        """Load the model. Raises app.errors.StartupError with one line for the operator."""

    async def stop(self) -> None: ...

    def check_health(self) -> None:
        """Raises EngineUnavailable when the engine can't answer any more."""

    @property
    def max_prompt_tokens(self) -> int: ...

    @property
    def openai(self) -> OpenAIAPI | None:
        """None where the engine only scores."""

    async def use_labels(self, token_ids: Sequence[int]) -> None:
        """Prepare float32 logits for these tokens; before they are first scored."""

    @property
    def step_tokens(self) -> int:
        """How many prompt tokens it computes at once."""

    async def load_adapter(self, name: str, path: Path) -> None:
        """`name`: as later calls of score() say it, `public name@version`. Raises
        AdapterRejected."""

    async def unload_adapter(self, name: str) -> None:
        """Also one whose loading failed."""

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        """One prefill a prompt, all at once; labels: (yes, no) token ids; adapter: None for the
        base. Cancelling the call aborts what the engine has not finished of it."""
