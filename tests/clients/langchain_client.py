"""LangChain. Run by tests/clients/__main__.py."""

import sys
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI, OpenAI

from tests.clients.verdict import MODEL, PROMPT, QUESTION, Verdict


def main(url: str) -> None:
    asked: dict[str, Any] = {
        "base_url": f"{url}/v1",
        "api_key": "none",
        "model": MODEL,
        "max_retries": 0,
    }
    chat = ChatOpenAI(**asked, temperature=0, max_tokens=10)

    answer = chat.invoke(QUESTION)
    assert isinstance(answer, AIMessage)
    assert isinstance(answer.content, str)
    assert answer.content
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.usage_metadata
    assert 0 < answer.usage_metadata["output_tokens"] <= 10

    chunks = list(chat.stream(QUESTION))
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert "".join(str(chunk.content) for chunk in chunks) == answer.content

    text = OpenAI(**asked, max_tokens=5).invoke(PROMPT)
    assert isinstance(text, str)
    assert text

    roomy = ChatOpenAI(**asked, temperature=0, max_tokens=60)
    verdict = roomy.with_structured_output(Verdict, method="json_schema").invoke(QUESTION)
    assert isinstance(verdict, Verdict)


if __name__ == "__main__":
    main(sys.argv[1])
