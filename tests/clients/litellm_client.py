"""LiteLLM. Run by tests/clients/__main__.py."""

import sys
from typing import Any

import litellm

from tests.clients.verdict import MODEL, PROMPT, QUESTION, Verdict


def main(url: str) -> None:
    service: dict[str, Any] = {"api_base": f"{url}/v1", "api_key": "none", "num_retries": 0}
    asked: dict[str, Any] = {
        **service,
        "model": f"openai/{MODEL}",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
    }
    answer = litellm.completion(**asked, max_tokens=10)
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 10

    chunks = list(litellm.completion(**asked, max_tokens=10, stream=True))
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(parts) == choice.message.content
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason

    done = litellm.text_completion(
        **service, model=f"text-completion-openai/{MODEL}", prompt=PROMPT, max_tokens=5
    )
    assert done.choices[0].text
    assert done.choices[0].finish_reason == "length"

    parsed = litellm.completion(**asked, max_tokens=60, response_format=Verdict).choices[0]
    assert parsed.finish_reason == "stop"
    Verdict.model_validate_json(parsed.message.content)


if __name__ == "__main__":
    main(sys.argv[1])
