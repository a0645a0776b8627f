"""One service with two engines (`data_parallel_size`), compared with one engine: the same answers,
readers who keep their engine, adapters that both have, and a new pair after one has died."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.conftest import titles
from tests.support.models import make_lora, make_tiny_qwen3
from tests.support.servers import Service, start_service, stopped_at_end

READERS = 8
ENGINES = {"one": 1, "two": 2}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    root = tmp_path_factory.mktemp("parallel")
    base = make_tiny_qwen3(root / "base")
    make_lora(base, root / "adapters" / "tuned", seed=1)
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(
                stopped_at_end(
                    start_service(
                        root / f"{name}-log",
                        model=str(base),
                        adapter_root=str(root / "adapters"),
                        state=str(root / f"{name}-state"),
                        engine=json.dumps(
                            {"data_parallel_size": count, "kv_cache_memory_bytes": 1 << 26}
                        ),
                    )
                )
            )
            for name, count in ENGINES.items()
        }
        for service in started.values():
            service.wait_until_ready()
        yield started


def rank(service: Service, reader: int, model: str) -> dict[str, Any]:
    history = [f"The {reader}th story that reader {reader} has clicked"] * 5
    body = {"model": model, "history": history, "candidates": titles(6)}
    answer = httpx.post(f"{service.url}/rank", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def probabilities(answer: dict[str, Any]) -> list[float]:
    rows = sorted(answer["results"], key=lambda row: int(row["index"]))
    return [row["probability"] for row in rows]


def prompt_tokens(service: Service) -> list[float]:
    """What each engine has read so far."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return [float(line.split()[-1]) for line in lines if line.startswith("vllm:prompt_tokens_tota")]


def test_two_engines_answer_as_one_does_and_both_work(services: dict[str, Service]) -> None:
    for reader in range(READERS):
        one, two = (probabilities(rank(services[name], reader, "base")) for name in ENGINES)
        assert two == pytest.approx(one, abs=2e-3)
    counts = prompt_tokens(services["two"])
    assert len(counts) == 2
    assert min(counts) > 0


def test_a_reader_who_comes_again_finds_the_cache_of_the_same_engine(
    services: dict[str, Service],
) -> None:
    for reader in range(READERS):
        rank(services["two"], reader, "base")
        usage = rank(services["two"], reader, "base")["usage"]
        # Whole blocks of 32 tokens; a prompt's last ones are always computed.
        assert usage["prompt_tokens"] - usage["cached_tokens"] <= 6 * 64


def test_a_chat_is_answered(services: dict[str, Service]) -> None:
    said = [{"role": "user", "content": "Will they click? " * 200}]
    body = {"model": "base", "messages": said, "max_tokens": 4, "temperature": 0}
    answers = [
        httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=120).json()
        for service in services.values()
    ]
    one, two = (answer["choices"][0]["message"]["content"] for answer in answers)
    assert one == two


def test_an_adapter_loaded_while_serving_is_at_both(services: dict[str, Service]) -> None:
    for service in services.values():
        body = {"name": "tuned", "path": "tuned"}
        assert httpx.post(f"{service.url}/adapters", json=body, timeout=120).status_code == 201
    for reader in range(READERS):
        one, two = (probabilities(rank(services[name], reader, "tuned")) for name in ENGINES)
        assert two == pytest.approx(one, abs=2e-3)
        base = probabilities(rank(services["two"], reader, "base"))
        assert two != pytest.approx(base, abs=2e-3)


def test_a_killed_engine_is_followed_by_a_new_pair(services: dict[str, Service]) -> None:
    service = services["two"]
    engine = next(
        one
        for one in psutil.Process(service.process.pid).children(recursive=True)
        if "EngineCore" in one.name() or "EngineCore" in " ".join(one.cmdline())
    )
    engine.kill()
    ask = {"model": "base", "candidates": titles(2)}
    deadline = time.monotonic() + 180
    statuses: list[int] = []
    while 503 not in statuses or statuses[-1] != 200:
        assert time.monotonic() < deadline, statuses
        statuses.append(httpx.post(f"{service.url}/rank", json=ask, timeout=60).status_code)
        time.sleep(0.2)
    assert set(statuses) == {200, 503}
    for reader in range(READERS):
        one, two = (probabilities(rank(services[name], reader, "base")) for name in ENGINES)
        assert two == pytest.approx(one, abs=2e-3)
