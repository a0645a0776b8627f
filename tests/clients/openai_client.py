"""OpenAI's own Python client. Run by tests/clients/__main__.py."""

import sys
from typing import Any

from openai import OpenAI

from tests.clients.verdict import MODEL, PROMPT, QUESTION, Verdict


def main(url: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    chat = client.chat.completions
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
    }

    answer = chat.create(**asked, max_tokens=10)
    [choice] = answer.choices
    assert answer.model == MODEL
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage
    assert 0 < answer.usage.completion_tokens <= 10

    chunks = list(chat.create(**asked, max_tokens=10, stream=True))
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(parts) == choice.message.content
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason
    assert len({chunk.id for chunk in chunks}) == 1

    done = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=5)
    assert done.object == "text_completion"
    assert done.choices[0].text
    assert done.choices[0].finish_reason == "length"

    parsed = chat.parse(**asked, max_tokens=60, response_format=Verdict).choices[0]
    assert parsed.finish_reason == "stop"
    assert isinstance(parsed.message.parsed, Verdict)


if __name__ == "__main__":
    main(sys.argv[1])
