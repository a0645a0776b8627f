"""What clients see through Ray Serve's proxy, with replicas that have no model."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.security.keys import new_key
from loadtests.replicas.parts import wait_until
from loadtests.replicas.ray_cluster import Cluster, deployment_of, ray_cluster
from tests.support.adapter_folders import write_adapter
from tests.support.fake_replicas import counted
from tests.support.models import SMOLLM2
from tests.support.waiting import HANG_S

BODY = {"history": ["Tesla opens a plant"], "target": "Rain at the weekend"}


@dataclass(frozen=True)
class Fake:
    """Two replicas without a model behind Ray's proxy."""

    cluster: Cluster
    key: str
    predict_key: str
    settings: dict[str, str]
    adapters: Path

    def deploy(self, user_config: dict[str, Any], running: int = 2, **options: Any) -> None:
        given = {
            "num_replicas": 2,
            "autoscaling_config": None,
            "ray_actor_options": {"num_cpus": 1},
            "user_config": user_config,
        }
        port = int(self.cluster.url.rpartition(":")[2])
        path = "tests.support.fake_replicas:service"
        config = deployment_of(self.settings, given | options, port, import_path=path)
        self.cluster.deploy(config)
        self.cluster.wait_until_running(running)

    def client(self, reader: str = "one", key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}", "X-Session-Id": reader}
        return httpx.Client(base_url=self.cluster.url, headers=headers, timeout=HANG_S)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    folder = tmp_path_factory.mktemp("cluster")
    for name in ("one", "two"):
        write_adapter(folder / "adapters" / name)
    made = [new_key(scope, scope) for scope in ("admin", "predict")]
    settings = {
        "FRONTPAGE_API_KEYS": json.dumps([key.model_dump(mode="json") for _, key in made]),
        "FRONTPAGE_MODEL": str(SMOLLM2),
        "FRONTPAGE_STATE": str(folder / "state"),
        "FRONTPAGE_ADAPTER_ROOT": str(folder / "adapters"),
        "FRONTPAGE_LIMITS__MAX_PENDING_REQUESTS": "4",
    }
    with ray_cluster(folder / "ray.log", processors=2) as cluster:
        found = Fake(cluster, made[0][0], made[1][0], settings, folder / "adapters")
        found.deploy({})
        yield found


def test_clients_see_what_they_see_without_ray(fake: Fake) -> None:
    with fake.client() as client:
        assert client.get("/ready").status_code == 200
        answer = client.post("/predict", json=BODY, headers={"X-Request-Id": "mine"})
        assert (answer.status_code, answer.json()["id"]) == (200, "mine")
        assert answer.headers.get_list("x-request-id") == ["mine"]
        wrong = client.post("/predict", json={})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "target")
        assert wrong.headers["x-request-id"] == wrong.json()["error"]["request_id"]
        assert client.get("/nothing").json()["error"]["code"] == "not_found"
        late = client.post("/predict", json=BODY, headers={"X-Request-Timeout-Ms": "20"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    with fake.client(key="wrong") as client:
        assert client.get("/v1/models").status_code == 401
    with fake.client(key=fake.predict_key) as client:
        assert client.get("/adapters").status_code == 403


def test_a_reader_keeps_a_replica_and_readers_use_all(fake: Fake) -> None:
    def answers(reader: str, count: int) -> list[float]:
        before = counted("frontpage_stories_scored_total")
        with fake.client(reader) as client:
            for _ in range(count):
                assert client.post("/predict", json=BODY).status_code == 200
        after = counted("frontpage_stories_scored_total")
        return sorted(new - old for new, old in zip(after, before, strict=True))

    assert answers("reader", 6) == [0, 6]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: answers_once(fake, f"reader {number}"), range(24)))
    assert min(counted("frontpage_stories_scored_total")) > 3


def answers_once(fake: Fake, reader: str) -> None:
    with fake.client(reader) as client:
        assert client.post("/predict", json=BODY).status_code == 200


def test_admission_is_the_services_own(fake: Fake) -> None:
    def status(_: int) -> tuple[int, str | None, str]:
        with fake.client() as client:
            answer = client.post("/predict", json=BODY)
        found = answer.json().get("error", {}).get("code", "")
        return answer.status_code, answer.headers.get("retry-after"), found

    with ThreadPoolExecutor(12) as pool:
        seen = set(pool.map(status, range(24)))
    assert seen == {(200, None, ""), (503, "1", "overloaded")}


def test_a_client_that_leaves_ends_its_work(fake: Fake) -> None:
    def left() -> float:
        return sum(counted("frontpage_requests_total", status="499"))

    before = left()

    def leave() -> bool:
        """Before the engine answers, and on a busy machine perhaps before the replica is asked."""
        with fake.client() as client, pytest.raises(httpx.TimeoutException):
            client.post("/predict", json=BODY, timeout=0.1)
        return left() > before

    wait_until(leave)
    wait_until(lambda: sum(counted("frontpage_pending_requests")) == 0)


def test_adapters_are_declared_for_all_replicas(fake: Fake) -> None:
    before = {replica.id for replica in fake.cluster.replicas()}
    aliases = {"default": {"weights": {"news": 1}}}
    fake.deploy({"adapters": {"news": "one"}, "aliases": aliases})
    assert counted("frontpage_adapter_loaded", model="news", version="1") == [1, 1]
    with fake.client() as client:
        assert client.post("/predict", json=BODY).json()["model"] == "news"
    fake.deploy({"adapters": {"news": "missing"}, "aliases": aliases})
    assert counted("frontpage_adapter_loaded", model="news", version="1") == [1, 1]
    assert min(counted("frontpage_adapter_loads_total", outcome="rejected")) >= 1
    rejected = sum(counted("frontpage_adapter_loads_total", outcome="rejected"))
    fake.deploy({"adapter": {}})
    assert counted("frontpage_adapter_loaded", model="news", version="1") == [1, 1]
    assert sum(counted("frontpage_adapter_loads_total", outcome="rejected")) == rejected + 2
    fake.deploy({"adapters": {"news": "two"}, "aliases": aliases})
    assert counted("frontpage_adapter_loaded", model="news", version="2") == [1, 1]
    assert {replica.id for replica in fake.cluster.replicas()} == before, "none was restarted"


def test_adapters_and_aliases_change_over_http_too(fake: Fake) -> None:
    """At whichever replica a call arrives; what is declared later changes only what it names."""
    aliases = {"default": {"weights": {"news": 1}}}
    fake.deploy({"adapters": {"news": "one"}, "aliases": aliases})
    with fake.client("first") as client, fake.client("second") as other:
        loaded = client.post("/adapters", json={"name": "other", "path": "two"})
        assert loaded.status_code == 201, loaded.text
        wait_until(lambda: counted("frontpage_adapter_loaded", model="other") == [1, 1])
        moved = other.put("/aliases/default", json={"weights": {"other": 1}})
        assert moved.status_code == 200, moved.text
        wait_until(lambda: all(answered_by(fake, f"r{n}") == "other" for n in range(4)))
        listed = {one["name"]: one for one in client.get("/adapters").json()["adapters"]}
        replicas = {one.id for one in fake.cluster.replicas()}
        assert {one["instance"] for one in listed["other"]["instances"]} == replicas
    fake.deploy({"adapters": {"news": "two"}, "aliases": aliases})
    assert counted("frontpage_adapter_loaded", model="other") == [1, 1]
    assert answered_by(fake, "one") == "other", "the alias is declared as before"
    fake.deploy({"adapters": {"news": "two"}, "aliases": {"default": {"weights": {"news": 2}}}})
    wait_until(lambda: all(answered_by(fake, f"r{n}") == "news" for n in range(4)))
    with fake.client() as client:
        assert client.delete("/adapters/other").status_code == 200
        wait_until(lambda: counted("frontpage_adapter_loaded", model="other") == [0, 0])


def answered_by(fake: Fake, reader: str) -> str:
    with fake.client(reader) as client:
        model: str = client.post("/predict", json=BODY).json()["model"]
        return model


def test_feedback_finds_an_answer_of_another_replica(fake: Fake) -> None:
    for number in range(4):
        with fake.client(f"reader {number}") as client:
            given = client.post("/predict", json=BODY).json()["id"]
        sent = {"id": given, "index": 0, "clicked": True}
        with fake.client(f"other {number}") as client:
            wait_until(partial(finds, client, sent))


def finds(client: httpx.Client, sent: dict[str, Any]) -> bool:
    """Whether the answer has been written: for a moment, only its own replica knows it."""
    status = client.post("/feedback", json=sent).status_code
    assert status in (200, 404)
    return status == 200


def test_a_killed_replica_costs_clean_503s_and_is_replaced(fake: Fake) -> None:
    aliases = {"default": {"weights": {"news": 1}}}
    fake.deploy({"adapters": {"news": "two"}, "aliases": aliases})
    victim = fake.cluster.replicas()[0]
    replaced = threading.Event()

    def ask(number: int) -> set[tuple[int, str]]:
        seen = set()
        with fake.client(f"reader {number}") as client:
            while not replaced.is_set():
                answer = client.post("/predict", json=BODY)
                error = answer.json().get("error", {"code": ""})
                seen.add((answer.status_code, error["code"]))
        return seen

    with ThreadPoolExecutor(16) as pool:
        asking = pool.map(ask, range(16))
        wait_until(lambda: sum(counted("frontpage_pending_requests")) > 4)  # both are at work
        os.kill(victim.pid, signal.SIGSTOP)  # so that it surely has requests when it dies
        time.sleep(1)
        os.kill(victim.pid, signal.SIGKILL)
        try:
            wait_until(lambda: victim.id not in [one.id for one in fake.cluster.replicas()])
        finally:
            replaced.set()
        seen = set.union(*asking)
    # Those it had; and more than fits, as everywhere in this cluster.
    assert (503, "engine_unavailable") in seen
    assert seen <= {(200, ""), (503, "engine_unavailable"), (503, "overloaded")}
    fake.cluster.wait_until_running(2)
    now = {replica.id for replica in fake.cluster.replicas()}
    assert victim.id not in now
    # The new one has what was declared, though nobody told it.
    assert counted("frontpage_adapter_loaded", model="news") == [1, 1]


def test_replicas_follow_the_requests_under_way(fake: Fake) -> None:
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1}
    quick = {"metrics_interval_s": 0.3, "look_back_period_s": 1}
    delays = {"upscale_delay_s": 0.5, "downscale_delay_s": 0.5}
    given = {"num_replicas": None, "autoscaling_config": scaling | quick | delays}
    fake.deploy({"adapters": {"news": "one"}}, running=1, **given)
    done = threading.Event()

    def ask(number: int) -> None:
        with fake.client(f"reader {number}") as client:
            while not done.is_set():
                client.post("/predict", json=BODY)

    with ThreadPoolExecutor(4) as pool:
        asking = pool.map(ask, range(4))
        try:
            fake.cluster.wait_until_running(2)
            assert counted("frontpage_adapter_loaded", model="news") == [1, 1]
        finally:
            done.set()
        list(asking)
