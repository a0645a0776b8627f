"""What the service itself reads from the body of a chat or completion: how much work it asks for.

Everything else is checked by vLLM's own types.
"""

from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import BadRequest, from_validation
from app.settings import Limits

COMPLETION_TOKENS = 16
"""OpenAI's default for a completion's `max_tokens`. A chat has none."""

ANSWER_TOKENS = 64
"""The most tokens that an answer counts for. Most answers end long before their `max_tokens`, and a
long one takes only one token of each engine step."""

BYTES_A_TOKEN = 4
CHAT_TEXTS = ("messages", "tools", "documents")
"""The fields of a chat that its template writes into the prompt."""


class Tokens(NamedTuple):
    """Roughly how many tokens a request makes the engine compute."""

    prompts: int
    answers: int


class AskedWork(BaseModel):
    """The fields that decide how much an OpenAI request makes the engine compute."""

    model_config = ConfigDict(extra="ignore")

    n: int | None = None
    best_of: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    @classmethod
    def read(cls, body: dict[str, Any]) -> Self:
        """Raises BadRequest for a field of the wrong type."""
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise from_validation(error.errors(), BadRequest) from None

    @property
    def choices(self) -> int:
        """How many answers each prompt gets. Beam search keeps as many beams."""
        return max(self.n or 1, self.best_of or 1)

    def answer_tokens(self, default: int) -> int:
        """How many tokens an answer counts for. default: for a request that does not limit it."""
        limits = (self.max_completion_tokens, self.max_tokens, default)
        asked = next(limit for limit in limits if limit is not None)
        return min(max(asked, 0), ANSWER_TOKENS)


def chat_tokens(body: dict[str, Any], limits: Limits) -> Tokens:
    """See count_tokens. body: of a chat."""
    return count_tokens(body, [[body.get(name) for name in CHAT_TEXTS]], ANSWER_TOKENS, limits)


def completion_tokens(body: dict[str, Any], limits: Limits) -> Tokens:
    """See count_tokens. body: of a completion."""
    prompt = body.get("prompt")
    prompts = [prompt]
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        prompts = prompt
    return count_tokens(body, prompts, COMPLETION_TOKENS, limits)


def count_tokens(
    body: dict[str, Any], prompts: list[Any], default_tokens: int, limits: Limits
) -> Tokens:
    """A rough count of the tokens that a request makes the engine compute: each prompt once, and
    each of its answers. default_tokens: of an answer, if the request does not limit it.

    Raises BadRequest for more answers than `limits.max_choices`.
    """
    asked = AskedWork.read(body)
    if asked.choices > 1 and asked.choices * len(prompts) > limits.max_choices:
        field = "n" if asked.n == asked.choices else "best_of"
        problem = f"at most {limits.max_choices} answers here, over all prompts"
        raise BadRequest(f"{field}: {problem}", field)
    answers = len(prompts) * asked.choices * asked.answer_tokens(default_tokens)
    return Tokens(sum(map(prompt_tokens, prompts)), answers)


def prompt_tokens(prompt: Any) -> int:
    """Of token ids their number, of anything else a guess from its length."""
    if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
        return len(prompt)
    return len(str(prompt).encode()) // BYTES_A_TOKEN + 1
