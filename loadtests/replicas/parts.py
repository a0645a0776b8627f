"""The parts of `loadtests.replicas`: what is done to the replicas while they are under load."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from loadtests.replicas.deployment import AFFINITY_ROUTER, LEAST_BUSY_ROUTER, Plan, replicas
from loadtests.replicas.outcomes import Outcome, Truth, tally, truth_of
from loadtests.services import READY_SECONDS, LoadTestError

Row = dict[str, Any]
"""Figures of one measurement, by column."""


def measure_throughput(name: str, count: int, cores: int, router: str, plan: Plan) -> Iterator[Row]:
    """Measure throughput; the first third of the time is a warm-up that fills the empty caches.

    count: number of replicas. cores: of each. All measurements send the same requests.
    """
    requests = plan.requests(20_000)
    cache = str(plan.cache_mib << 20)
    with replicas(plan, name, count, cores, router, ENGINE__KV_CACHE_MEMORY_BYTES=cache) as running:
        during = partial(time.sleep, 1.5 * plan.seconds)
        outcomes = running.load(
            requests, plan.at_once * count, during, affine=router == AFFINITY_ROUTER
        )
    warm = min(one.sent for one in outcomes) + plan.seconds / 2
    counted = [one for one in outcomes if one.done >= warm]
    yield {"part": name, "replicas": count, "cores_each": cores} | rates(counted)


def rates(outcomes: Sequence[Outcome]) -> Row:
    """Figures of the answers; whatever is not an answer counts as not answered."""
    answered = sorted(one.done - one.sent for one in outcomes if one.status == 200)
    length = max(one.done for one in outcomes) - min(one.done for one in outcomes)
    prompt = sum(one.prompt_tokens for one in outcomes)
    return {
        "answers_per_s": round(len(answered) / length, 2),
        "p50_ms": round(answered[len(answered) // 2] * 1e3),
        "p99_ms": round(answered[len(answered) * 99 // 100] * 1e3),
        "cached_share": round(sum(one.cached_tokens for one in outcomes) / prompt, 4),
        "requests": len(outcomes),
        "not_answered": len(outcomes) - len(answered),
    }


def verify_kills(plan: Plan) -> Iterator[Row]:
    """Kill a replica's process, later an engine's, each until two replicas run again."""
    requests = plan.requests(plan.pool)
    with replicas(plan, "kill", 2) as running:
        truth = truth_of(running.quiet(requests))

        def kill_and_wait(kill: Callable[[], str]) -> None:
            time.sleep(plan.seconds / 12)
            lost = kill()
            wait_until(lambda: lost not in [one.id for one in running.cluster.replicas()])
            running.cluster.wait_until_running(2)
            time.sleep(plan.seconds / 12)

        def kill_replica() -> str:
            victim = running.cluster.replicas()[0]
            victim.process().kill()
            return victim.id

        def kill_engine() -> str:
            victim = running.cluster.replicas()[0]
            victim.engine().kill()
            return victim.id

        for name, kill in (("a replica killed", kill_replica), ("an engine killed", kill_engine)):
            started = time.monotonic()
            outcomes = running.load(requests, plan.at_once, partial(kill_and_wait, kill))
            yield summarize(name, outcomes, truth, started)


def verify_adapter(plan: Plan) -> Iterator[Row]:
    """Roll out an adapter to all replicas while they answer, and make it the default.

    Then declare one that cannot be loaded, which must change nothing.
    """
    assert plan.adapter is not None
    requests = plan.requests(plan.pool)
    root = str(plan.adapter.resolve().parent)
    name = plan.adapter.name
    with replicas(plan, "adapter", 2, ADAPTER_ROOT=root, MAX_ADAPTERS="1") as running:
        truth = truth_of(running.quiet(requests))

        def declare(adapters: Mapping[str, str], weights: Mapping[str, float]) -> None:
            aliases = {"default": {"weights": weights}}
            running.options["user_config"] = {"adapters": adapters, "aliases": aliases}
            time.sleep(plan.seconds / 12)
            running.deploy()
            running.cluster.wait_until_running(2)
            time.sleep(plan.seconds / 12)

        started = time.monotonic()
        outcomes = running.load(requests, 4, lambda: declare({"rolled": name}, {"rolled": 1}))
        after = running.quiet(requests)
        if {one.model for one in after} != {"rolled"}:
            raise LoadTestError(f"the adapter did not reach all replicas: {after[0]}")
        truth |= truth_of(after)
        yield summarize("an adapter rolled out", outcomes, truth, started)
        started = time.monotonic()
        outcomes = running.load(requests, 4, lambda: declare({"rolled": "none"}, {"rolled": 1}))
        yield summarize("a missing adapter rolled out", outcomes, truth, started)


def verify_update(plan: Plan) -> Iterator[Row]:
    """Change a setting, so that Ray replaces each replica."""
    requests = plan.requests(plan.pool)
    with replicas(plan, "update", 2) as running:
        truth = truth_of(running.quiet(requests))
        before = {one.id for one in running.cluster.replicas()}

        def update() -> None:
            time.sleep(plan.seconds / 12)
            running.settings["FRONTPAGE_LOG_LEVEL"] = "warning"
            running.deploy()
            wait_until(lambda: not before & {one.id for one in running.cluster.replicas()})
            running.cluster.wait_until_running(2)
            time.sleep(plan.seconds / 12)

        started = time.monotonic()
        outcomes = running.load(requests, plan.at_once, update)
        yield summarize("rolling update", outcomes, truth, started)


def summarize(
    name: str,
    outcomes: Sequence[Outcome],
    truth: Truth,
    started: float,
) -> Row:
    """Figures of all outcomes. started: when the part began, by time.monotonic()."""
    odd = [one for one in outcomes if one.status not in (200, 503)]
    return {
        "part": name,
        "requests": len(outcomes),
        **tally(outcomes, truth),
        "longest_ms": round(max(one.done - one.sent for one in outcomes) * 1e3),
        "seconds": round(time.monotonic() - started, 1),
        "odd": sorted({f"{one.status} {one.code}{one.detail}" for one in odd}),
    }


def wait_until(done: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    """Raises LoadTestError if `done` is not true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise LoadTestError("Ray has not replaced the replica")
        time.sleep(0.2)


PARTS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "one": partial(measure_throughput, "one", 1, 1, AFFINITY_ROUTER),
    "one-wide": partial(measure_throughput, "one-wide", 1, 2, AFFINITY_ROUTER),
    "two": partial(measure_throughput, "two", 2, 1, AFFINITY_ROUTER),
    "two-spread": partial(measure_throughput, "two-spread", 2, 1, LEAST_BUSY_ROUTER),
    "kill": verify_kills,
    "adapter": verify_adapter,
    "update": verify_update,
}
