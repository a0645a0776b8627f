"""Runs the deployment on a Ray cluster of this machine, for loadtests.replicas and tests."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.security.keys import new_key
from loadtests.replicas.outcomes import Outcome, ReaderRequest, send, with_reader
from loadtests.replicas.ray_cluster import Cluster, deployment_of, ray_cluster
from loadtests.traffic import Traffic

AFFINITY_ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
LEAST_BUSY_ROUTER = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"


@dataclass(frozen=True)
class Plan:
    """What to measure and with how much load.

    adapter: LoRA folder of the model, for the part `adapter`. folder: for logs and state. seconds:
    length of the measurement. at_once: requests in flight per replica. pool: number of different
    requests in the parts that compare each answer with a quiet run's. cache_mib: KV cache of each
    engine.
    """

    model: Path
    adapter: Path | None
    folder: Path
    seconds: float = 60.0
    at_once: int = 8
    readers: int = 300
    pool: int = 40
    cache_mib: int = 256

    def requests(self, count: int) -> list[ReaderRequest]:
        traffic = Traffic(readers=self.readers)
        return [with_reader(traffic.predict()) for _ in range(count)]


@dataclass
class Running:
    """A running deployment.

    key: an admin's key. settings: variables of the service. options: of the Ray deployment.
    Change settings or options, then call `deploy`.
    """

    cluster: Cluster
    key: str
    settings: dict[str, str]
    options: dict[str, Any]

    def deploy(self) -> None:
        """Deploy with the current settings and options. Raises LoadTestError."""
        port = int(self.cluster.url.rpartition(":")[2])
        self.cluster.deploy(deployment_of(self.settings, self.options, port))

    def load(
        self,
        requests: Sequence[ReaderRequest],
        at_once: int,
        during: Callable[[], None],
        affine: bool = True,
    ) -> list[Outcome]:
        """Keep up the load while `during` runs in another thread; return all outcomes."""

        async def run() -> list[Outcome]:
            event = asyncio.create_task(asyncio.to_thread(during))
            sending = send(
                self.cluster.url, self.key, requests, at_once, lambda _: event.done(), affine
            )
            outcomes = await sending
            await event
            return outcomes

        return asyncio.run(run())

    def quiet(self, requests: Sequence[ReaderRequest]) -> list[Outcome]:
        """Send each request once, two at a time."""
        return asyncio.run(
            send(self.cluster.url, self.key, requests, 2, lambda sent: sent >= len(requests))
        )


@contextmanager
def replicas(
    plan: Plan,
    name: str,
    count: int,
    cores: int = 1,
    router: str = AFFINITY_ROUTER,
    **settings: str,
) -> Iterator[Running]:
    """Run `count` replicas with `cores` cores each.

    settings: of the service, named as its variables without FRONTPAGE_. Raises LoadTestError if
    the replicas do not start.
    """
    secret, key = new_key("load", "admin")
    environment = {
        "FRONTPAGE_API_KEYS": json.dumps([key.model_dump(mode="json", exclude_none=True)]),
        "FRONTPAGE_MODEL": str(plan.model.resolve()),
        "FRONTPAGE_STATE": str((plan.folder / f"state-{name}").resolve()),
        "FRONTPAGE_LIMITS__MAX_PENDING_TOKENS": "1000000",
        # Ray sets OMP_NUM_THREADS from num_cpus. Bound threads would all share the same cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        **{f"FRONTPAGE_{name}": value for name, value in settings.items()},
    }
    options = {
        "num_replicas": count,
        "autoscaling_config": None,
        "ray_actor_options": {"num_cpus": cores},
        "request_router_config": {"request_router_class": router},
    }
    with ray_cluster(plan.folder / f"{name}.log", processors=count * cores) as cluster:
        running = Running(cluster, secret, environment, options)
        running.deploy()
        cluster.wait_until_running(count)
        yield running
