"""python -m loadtests.replicas: Ray Serve with CPU replicas, under load.

Parts: `one` replica with one core, `one-wide` with two, `two` with a core each and readers that
keep theirs, `two-spread` where the less busy one answers; `kill` (a replica, then an engine),
`adapter` (rolled out), `update` (rolling). Each starts a Ray cluster of its own.

Prints Markdown tables and one line of JSON; exits with 1 when an answer was wrong, a request hung
or failed otherwise than by a 503, with 2 when nothing could be measured.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.options import names
from loadtests.replicas.deployment import AFFINE, PLAIN, Plan, replicas
from loadtests.replicas.outcomes import Outcome, tally, truth_of
from loadtests.services import ROOT, LoadTestError

Row = dict[str, Any]


def measure_throughput(name: str, count: int, cores: int, router: str, plan: Plan) -> Iterator[Row]:
    """The same requests for all, to replicas whose caches are empty; the first third is a warm-up.
    count: of replicas. cores: of each."""
    asks = plan.asks(20_000)
    cache = str(plan.cache_mib << 20)
    with replicas(plan, name, count, cores, router, ENGINE__KV_CACHE_MEMORY_BYTES=cache) as running:
        during = partial(time.sleep, 1.5 * plan.seconds)
        outcomes = running.load(asks, plan.at_once * count, during, affine=router == AFFINE)
    warm = min(one.sent for one in outcomes) + plan.seconds / 2
    counted = [one for one in outcomes if one.done >= warm]
    yield {"part": name, "replicas": count, "cores_each": cores} | rates(counted)


def rates(outcomes: Sequence[Outcome]) -> Row:
    """Figures of the answers; failed: everything else."""
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
    """SIGKILL for a replica's process, then for an engine's; until two replicas run again."""
    asks = plan.asks(plan.pool)
    with replicas(plan, "kill", 2) as running:
        truth = truth_of(running.quiet(asks))

        def replaced(kill: Callable[[], str]) -> None:
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
            outcomes = running.load(asks, plan.at_once, partial(replaced, kill))
            yield judged(name, outcomes, truth, started)


def verify_adapter(plan: Plan) -> Iterator[Row]:
    """Desired for all replicas while they answer: by `default`, first the base, then the adapter;
    then one that can't be loaded, which changes nothing."""
    assert plan.adapter is not None
    asks = plan.asks(plan.pool)
    root = str(plan.adapter.resolve().parent)
    name = plan.adapter.name
    with replicas(plan, "adapter", 2, ADAPTER_ROOT=root, MAX_ADAPTERS="1") as running:
        truth = truth_of(running.quiet(asks))

        def declare(adapters: Mapping[str, str], weights: Mapping[str, float]) -> None:
            aliases = {"default": {"weights": weights}}
            running.options["user_config"] = {"adapters": adapters, "aliases": aliases}
            time.sleep(plan.seconds / 12)
            running.deploy()
            running.cluster.wait_until_running(2)
            time.sleep(plan.seconds / 12)

        started = time.monotonic()
        outcomes = running.load(asks, 4, lambda: declare({"rolled": name}, {"rolled": 1}))
        after = running.quiet(asks)
        if {one.model for one in after} != {"rolled"}:
            raise LoadTestError(f"the adapter did not reach all replicas: {after[0]}")
        truth |= truth_of(after)
        yield judged("an adapter rolled out", outcomes, truth, started)
        started = time.monotonic()
        outcomes = running.load(asks, 4, lambda: declare({"rolled": "none"}, {"rolled": 1}))
        yield judged("a missing adapter rolled out", outcomes, truth, started)


def verify_update(plan: Plan) -> Iterator[Row]:
    """A setting changes, so each replica is replaced by a new one."""
    asks = plan.asks(plan.pool)
    with replicas(plan, "update", 2) as running:
        truth = truth_of(running.quiet(asks))
        before = {one.id for one in running.cluster.replicas()}

        def update() -> None:
            time.sleep(plan.seconds / 12)
            running.settings["FRONTPAGE_LOG_LEVEL"] = "warning"
            running.deploy()
            wait_until(lambda: not before & {one.id for one in running.cluster.replicas()})
            running.cluster.wait_until_running(2)
            time.sleep(plan.seconds / 12)

        started = time.monotonic()
        outcomes = running.load(asks, plan.at_once, update)
        yield judged("rolling update", outcomes, truth, started)


def judged(
    name: str,
    outcomes: Sequence[Outcome],
    truth: Mapping[tuple[int, str], tuple[float, ...]],
    started: float,
) -> Row:
    odd = [one for one in outcomes if one.status not in (200, 503)]
    return {
        "part": name,
        "requests": len(outcomes),
        **tally(outcomes, truth),
        "longest_ms": round(max(one.done - one.sent for one in outcomes) * 1e3),
        "seconds": round(time.monotonic() - started, 1),
        "odd": sorted({f"{one.status} {one.code}{one.detail}" for one in odd}),
    }


def wait_until(done: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise LoadTestError("Ray has not replaced the replica")
        time.sleep(0.2)


PARTS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "one": partial(measure_throughput, "one", 1, 1, AFFINE),
    "one-wide": partial(measure_throughput, "one-wide", 1, 2, AFFINE),
    "two": partial(measure_throughput, "two", 2, 1, AFFINE),
    "two-spread": partial(measure_throughput, "two-spread", 2, 1, PLAIN),
    "kill": verify_kills,
    "adapter": verify_adapter,
    "update": verify_update,
}


def table(rows: Sequence[Row]) -> str:
    """One Markdown table for each kind of rows."""
    lines: list[str] = []
    for columns in dict.fromkeys(tuple(name for name in row if name != "odd") for row in rows):
        lines += ["", f"| {' | '.join(columns).replace('_', ' ')} |", "|---" * len(columns) + "|"]
        lines += [
            f"| {' | '.join(str(row[name]) for name in columns)} |"
            for row in rows
            if tuple(name for name in row if name != "odd") == columns
        ]
    return "\n".join(lines[1:])


def is_right(row: Row) -> bool:
    return not any(row.get(name) for name in ("wrong", "unknown", "hangs", "failed"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.replicas", description=__doc__)
    parser.add_argument("--parts", type=names(PARTS), default=list(PARTS), help="default: all")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "news-smollm2")
    parser.add_argument("--adapter", type=Path, help="a LoRA folder of the model; for `adapter`")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--at-once", type=int, default=8, help="requests for each replica")
    parser.add_argument("--readers", type=int, default=300)
    parser.add_argument("--pool", type=int, default=40, help="requests compared with a quiet run")
    parser.add_argument("--cache-mib", type=int, default=256, help="of each engine's KV cache")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "replicas")
    options = parser.parse_args()
    if "adapter" in options.parts and options.adapter is None:
        parser.error("--adapter: the part `adapter` needs one")
    options.output.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        options.model,
        options.adapter,
        options.output,
        options.seconds,
        options.at_once,
        options.readers,
        options.pool,
        options.cache_mib,
    )
    rows: list[Row] = []
    try:
        for part in options.parts:
            for row in PARTS[part](plan):
                print(json.dumps(row), file=sys.stderr)
                rows.append(row)
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    print(json.dumps(rows))
    return 0 if all(is_right(row) for row in rows) else 1
