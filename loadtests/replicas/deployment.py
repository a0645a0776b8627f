"""The deployment at work on a Ray cluster of this machine, for loadtests.replicas and tests."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.security.keys import new_key
from loadtests.replicas.outcomes import Outcome, ReaderAsk, ask_of, send
from loadtests.replicas.ray_cluster import Cluster, deployment_of, ray_cluster
from loadtests.traffic import Traffic

AFFINE = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
PLAIN = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"


@dataclass(frozen=True)
class Plan:
    """at_once: requests under way for each replica. pool: different requests of the parts in which
    each answer is compared with a quiet run's."""

    model: Path
    adapter: Path | None
    folder: Path
    seconds: float = 60.0
    at_once: int = 8
    readers: int = 300
    pool: int = 40
    cache_mib: int = 256

    def asks(self, count: int) -> list[ReaderAsk]:
        traffic = Traffic(readers=self.readers)
        return [ask_of(traffic.predict()) for _ in range(count)]


@dataclass
class Running:
    """A deployment at work, and how to change it."""

    cluster: Cluster
    key: str
    settings: dict[str, str]
    options: dict[str, Any]

    def deploy(self) -> None:
        port = int(self.cluster.url.rpartition(":")[2])
        self.cluster.deploy(deployment_of(self.settings, self.options, port))

    def load(
        self,
        asks: Sequence[ReaderAsk],
        at_once: int,
        during: Callable[[], None],
        affine: bool = True,
    ) -> list[Outcome]:
        """Under load for as long as `during` takes, in a thread of its own."""

        async def run() -> list[Outcome]:
            event = asyncio.create_task(asyncio.to_thread(during))
            sending = send(
                self.cluster.url, self.key, asks, at_once, lambda _: event.done(), affine
            )
            outcomes = await sending
            await event
            return outcomes

        return asyncio.run(run())

    def quiet(self, asks: Sequence[ReaderAsk]) -> list[Outcome]:
        """Each ask once, two at a time."""
        return asyncio.run(
            send(self.cluster.url, self.key, asks, 2, lambda sent: sent >= len(asks))
        )


@contextmanager
def replicas(
    plan: Plan, name: str, count: int, cores: int = 1, router: str = AFFINE, **settings: str
) -> Iterator[Running]:
    """count: of replicas, running. cores: of each. settings: by their names as variables."""
    secret, key = new_key("load", "admin")
    environment = {
        "FRONTPAGE_API_KEYS": json.dumps([key.model_dump(mode="json", exclude_none=True)]),
        "FRONTPAGE_MODEL": str(plan.model.resolve()),
        "FRONTPAGE_STATE": str((plan.folder / f"state-{name}").resolve()),
        "FRONTPAGE_LIMITS__MAX_PENDING_TOKENS": "1000000",
        # Ray gives OMP_NUM_THREADS by num_cpus; bound, all replicas would take the same cores.
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
