"""Services whose real engine is lost while clients ask for rankings."""

import json
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.replicas.parts import wait_until
from tests.integration.conftest import titles
from tests.support.models import make_lora
from tests.support.rankers import write_ranker
from tests.support.servers import Service, start_service, stopped_at_end
from tests.support.shared_services import TinyModels
from tests.support.waiting import HANG_S

CLIENTS = 4
READER = {"history": ["Tesla", "SpaceX"], "candidates": titles(5)}
PATIENT = {"x-request-timeout-ms": f"{HANG_S:.0f}000"}
"""So that no busy machine makes an answer of the engine late."""


def ranked_models(tiny_models: TinyModels, root: Path) -> dict[str, str]:
    """Settings of a tiny model and an adapter, both with rankers that need no sentence encoder."""
    base = Path(shutil.copytree(tiny_models.base, root / "base"))
    adapter = make_lora(base, root / "news", seed=3)
    for folder in (base, adapter):
        write_ranker(folder, None, tower=False)
    return {
        "model": str(base),
        "adapters": json.dumps({"news": str(adapter)}),
        "adapter_root": str(root),
        "max_adapters": "1",
    }


@contextmanager
def running(folder: Path, settings: dict[str, str], **more: str) -> Iterator[Service]:
    with stopped_at_end(start_service(folder / "log", **settings, **more)) as service:
        yield service


def engine_of(service: Service) -> psutil.Process:
    """Its process, once there is one."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = [one for one in children(service) if "EngineCore" in one.name()]
        return bool(found)

    wait_until(is_there, HANG_S)
    return found[0]


def children(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children(recursive=True)


def rank(service: Service, **fields: Any) -> dict[str, Any]:
    url = f"{service.url}/rank"
    answer = httpx.post(url, json=READER | fields, headers=PATIENT, timeout=HANG_S)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def probabilities(service: Service, model: str) -> list[tuple[str, float]]:
    """By text: signals alone would not change."""
    answer = rank(service, model=model, degraded="refuse")
    assert not answer["degraded"]
    return [(one["id"], one["text_probability"]) for one in answer["results"]]


def state(service: Service) -> str:
    return str(httpx.get(f"{service.url}/health", timeout=HANG_S).json()["engine"])


def metrics_of(service: Service) -> dict[str, float]:
    text = httpx.get(f"{service.url}/metrics", timeout=HANG_S).text
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


@contextmanager
def asked(service: Service, models: list[str]) -> Iterator[Counter[tuple[int, bool | None]]]:
    """Clients that ask again and again; gives how often they got which status, and whether the
    answer was degraded."""
    counts: Counter[tuple[int, bool | None]] = Counter()
    enough = threading.Event()

    def ask(number: int) -> None:
        body = READER | {"model": models[number % len(models)]}
        with httpx.Client(base_url=service.url, headers=PATIENT, timeout=HANG_S) as client:
            while not enough.is_set():
                answer = client.post("/rank", json=body)
                counts[(answer.status_code, answer.json().get("degraded"))] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, number) for number in range(CLIENTS)]
        try:
            yield counts
        finally:
            enough.set()
        for one in asking:
            one.result()


def wait_for_more(counts: Counter[tuple[int, bool | None]], *, degraded: bool) -> None:
    """A few further answers of one kind, for every client."""
    had = counts[(200, degraded)]
    wait_until(lambda: counts[(200, degraded)] >= had + 2 * CLIENTS, HANG_S)


def wait_until_answering(service: Service) -> dict[str, Any]:
    """The first answer."""
    found: list[dict[str, Any]] = []

    def answers() -> bool:
        assert service.process.poll() is None, service.log.read_text()
        try:
            found.append(rank(service))
        except httpx.ConnectError:
            return False
        return True

    wait_until(answers, HANG_S)
    return found[0]


def replace_under_load(
    ranked: dict[str, str], folder: Path, sent: signal.Signals, reason: str, times: int
) -> None:
    """Lose the engine `times` times by a signal while clients ask; no request may fail."""
    with running(folder, ranked, engine_hang_s="20") as service:
        assert wait_until_answering(service)["degraded"]
        assert state(service) == "loading"
        service.wait_until_ready()
        uploaded = {"name": "more", "path": "news"}
        added = httpx.post(f"{service.url}/adapters", json=uploaded, timeout=HANG_S)
        assert added.status_code == 201, added.text
        models = ["base", "news", "more"]
        before = [probabilities(service, model) for model in models]
        lost = engine_of(service)
        with asked(service, models) as counts:
            wait_for_more(counts, degraded=False)
            lost.send_signal(sent)
            wait_until(lambda: state(service) == "restarting", HANG_S)
            refused = httpx.post(f"{service.url}/adapters", json=uploaded, timeout=HANG_S)
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
            wait_for_more(counts, degraded=True)
            for _ in range(times - 1):
                wait_until(lambda: engine_of(service).pid != lost.pid, HANG_S)
                engine_of(service).send_signal(sent)
            wait_until(lambda: state(service) == "ready", HANG_S)
            wait_for_more(counts, degraded=False)
        assert {status for status, _ in counts} == {200}
        assert not lost.is_running()
        assert [probabilities(service, model) for model in models] == before
        lines = metrics_of(service)
        assert lines[f'frontpage_engine_restarts_total{{reason="{reason}"}}'] == times
        assert lines["frontpage_pending_tokens"] == 0
        assert lines["frontpage_engine_up"] == 1
        assert "ready again" in service.log.read_text()
