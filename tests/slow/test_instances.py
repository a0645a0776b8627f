"""Two instances on the real vLLM and one PostgreSQL: what is loaded at one is served at both."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.replicas.parts import wait_until
from tests.integration.conftest import titles
from tests.support.models import make_lora
from tests.support.postgres import Postgres, migrated
from tests.support.servers import Service, start_service, stopped_at_end
from tests.support.shared_services import TinyModels
from tests.support.waiting import HANG_S

READER = {"history": ["Tesla", "SpaceX"], "liked": ["Apple"]}


@pytest.fixture(scope="module")
def settings(
    postgres: Postgres, tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    root = tmp_path_factory.mktemp("adapters")
    for number in (1, 2):
        make_lora(tiny_models.base, root / f"v{number}", seed=10 + number)
    return {
        "model": str(tiny_models.base),
        "adapter_root": str(root),
        "max_adapters": "1",
        "store": migrated(postgres),
        "reader_key": "the same for both of them",
    }


class Pair:
    """Two services, which the test may end and start again."""

    def __init__(self, folder: Path, settings: dict[str, str], stack: ExitStack) -> None:
        self.folder, self.settings, self._stack = folder, settings, stack
        self.running: dict[str, Service] = {}

    def start(self, name: str) -> None:
        state = self.folder / name
        state.mkdir(exist_ok=True)
        service = start_service(state / "log", instance_name=name, **self.settings)
        self.running[name] = self._stack.enter_context(stopped_at_end(service))

    def ask(self, name: str, method: str, path: str, body: Any = None) -> Any:
        url = f"{self.running[name].url}{path}"
        answer = httpx.request(method, url, json=body, timeout=HANG_S)
        assert answer.is_success, answer.text
        return answer.json()

    def scores(self, name: str, **more: Any) -> list[float]:
        return [
            self.ask(name, "POST", "/predict", {**READER, "target": title, **more})["probability"]
            for title in titles(6)
        ]

    def statuses(self, at: str) -> dict[str, tuple[int, str]]:
        """Instance → version and status of `news`, as one of them lists it."""
        listed = self.ask(at, "GET", "/adapters")["adapters"]
        return {
            one["instance"]: (one["version"], one["status"])
            for adapter in listed
            for one in adapter["instances"]
        }


@pytest.fixture(scope="module")
def pair(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        found = Pair(tmp_path_factory.mktemp("pair"), settings, stack)
        for name in ("a", "b"):
            found.start(name)
        for service in found.running.values():
            service.wait_until_ready()
        yield found


def test_what_is_loaded_at_one_is_served_by_both_with_the_same_scores(pair: Pair) -> None:
    base = pair.scores("a")
    assert pair.ask("a", "POST", "/adapters", {"name": "news", "path": "v1"})["version"] == 1
    wait_until(lambda: pair.statuses("b").get("b") == (1, "serving"))
    wait_until(lambda: pair.statuses("b").get("a") == (1, "serving"))
    first = pair.scores("a", model="news")
    assert pair.scores("b", model="news") == pytest.approx(first, abs=1e-3)
    assert min(abs(x - y) for x, y in zip(first, base, strict=True)) > 1e-3
    pair.ask("b", "PUT", "/aliases/default", {"weights": {"news": 1}})
    assert pair.scores("b") == pytest.approx(first, abs=1e-3)
    wait_until(lambda: pair.scores("a") == pytest.approx(first, abs=1e-3))
    assert pair.ask("b", "POST", "/adapters", {"name": "news", "path": "v2"})["version"] == 2
    wait_until(lambda: pair.statuses("a").get("a") == (2, "serving"))
    second = pair.scores("b")
    assert pair.scores("a") == pytest.approx(second, abs=1e-3)
    assert min(abs(x - y) for x, y in zip(first, second, strict=True)) > 1e-3


def test_one_that_was_killed_starts_with_what_has_changed_since(pair: Pair) -> None:
    pair.running["b"].process.kill()
    pair.running["b"].process.wait()
    changed = pair.ask("a", "POST", "/adapters", {"name": "news", "path": "v1"})["version"]
    pair.start("b")
    pair.running["b"].wait_until_ready()
    assert pair.statuses("b")["b"] == (changed, "serving")
    assert pair.scores("b") == pytest.approx(pair.scores("a"), abs=1e-3)
    answer = pair.ask("a", "POST", "/predict", {**READER, "target": "Rain at sea"})
    sent = {"id": answer["id"], "index": 0, "clicked": True}
    wait_until(lambda: is_found(pair.running["b"], sent))


def is_found(service: Service, sent: dict[str, Any]) -> bool:
    """Whether the answer of the other instance has been written."""
    status = httpx.post(f"{service.url}/feedback", json=sent, timeout=HANG_S).status_code
    assert status in (200, 404)
    return status == 200
