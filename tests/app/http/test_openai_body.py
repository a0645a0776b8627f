"""How much work a chat or completion counts for, and the bound on its answers."""

from typing import Any

import pytest

from app.errors import BadRequest
from app.http.openai_body import ANSWER_TOKENS, chat_tokens, completion_tokens
from app.settings import Limits

LIMITS = Limits(max_choices=10)
CHAT = {"messages": [{"role": "user", "content": "hello"}]}
Json = dict[str, Any]


def completion(**fields: Any) -> int:
    return sum(completion_tokens({"prompt": [1, 2, 3], **fields}, LIMITS))


def chat(**fields: Any) -> int:
    """Without the prompt's own tokens."""
    return sum(chat_tokens(CHAT | fields, LIMITS)) - chat_tokens(CHAT, LIMITS).prompts


def test_a_completion_counts_its_prompts_and_answers() -> None:
    assert completion() == 3 + 16
    assert completion(max_tokens=None) == 3 + 16
    assert completion(max_tokens=40) == 3 + 40
    assert completion(max_tokens=5, n=7) == 3 + 7 * 5
    assert completion(max_tokens=5, best_of=8, n=2) == 3 + 8 * 5
    assert completion(max_tokens=5, n=4, use_beam_search=True) == 3 + 4 * 5
    assert completion(max_tokens=5, prompt=[[1, 2], [3, 4, 5]]) == 5 + 2 * 5
    assert completion(max_tokens=5, prompt=[[1, 2], [3]], n=3) == 3 + 6 * 5
    assert completion(max_tokens=5, prompt=["x" * 400, "y" * 40]) == 101 + 11 + 2 * 5


def test_a_chat_counts_its_answers_up_to_a_length() -> None:
    assert chat(max_tokens=20) == 20
    assert chat(max_completion_tokens=30, max_tokens=20) == 30
    assert chat() == chat(max_tokens=4000) == ANSWER_TOKENS
    assert chat(max_tokens=20, n=10) == 200
    assert chat(max_tokens="20", n="3") == 60  # numbers as vLLM reads them


def test_what_the_template_writes_counts() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 4000}}
    assert chat(max_tokens=0, tools=[tool]) > 1000
    assert chat(max_tokens=0, documents=[{"text": "t" * 4000}]) > 1000


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 11}, "n"),
        ({"n": "1500"}, "n"),
        ({"best_of": 11}, "best_of"),
        ({"n": 2, "best_of": 20}, "best_of"),
        ({"n": 2, "prompt": ["a"] * 6}, "n"),
        ({"n": 11, "use_beam_search": True}, "n"),
        ({"n": [1]}, "n"),
        ({"max_tokens": "many"}, "max_tokens"),
    ],
)
def test_too_many_answers_are_refused(fields: Json, param: str) -> None:
    with pytest.raises(BadRequest) as wrong:
        completion(**fields)
    assert wrong.value.param == param


def test_as_many_as_allowed_are_not() -> None:
    assert completion(n=10, max_tokens=1) == 13
    assert completion(n=5, prompt=["a", "b"], max_tokens=1) == 12
    assert completion(prompt=["a"] * 50, max_tokens=1) == 100  # one answer each, as in a batch
