"""Clients of the default model's service on the real vLLM."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.support.servers import Service

MODEL = "news-smollm2"


@pytest.fixture
def http(default_service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=default_service.url, timeout=120) as client:
        yield client


@pytest.fixture
def sdk(default_service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{default_service.url}/v1", api_key="none", max_retries=0)


def titles(count: int) -> list[str]:
    """Different invented headlines that read like real ones."""
    who = ["City council", "Local team", "Tech giant", "Film star", "Storm", "Central bank"]
    does = ["delays", "wins", "unveils", "denies", "threatens", "cuts", "celebrates"]
    what = ["new stadium", "title game", "budget plan", "holiday sale", "coastal towns"]
    made = [f"{a} {b} {c}" for a in who for b in does for c in what]
    assert len(set(made)) >= count
    return made[:: len(made) // count][:count] if count <= len(made) // 2 else made[:count]
