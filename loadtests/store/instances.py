"""Measure how soon a change at one instance is effective at the others.

  python -m loadtests.store.instances --store postgresql://frontpage@localhost/frontpage

Starts three instances on one store in this process, on the engine without a model, moves an alias
and loads adapters at each in turn, and waits until the two others do the same. Prints one line of
JSON: milliseconds until the call had answered, and from then until both others had followed.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.engine.fake import FakeEngine
from app.errors import StartupError
from app.main import create_app
from app.service import Service
from app.settings import Settings
from loadtests.services import ROOT

INSTANCES = 3
WATCH_S = 0.002


@dataclass(frozen=True)
class Options:
    """moves, loads: how many to measure. adapter: LoRA folder of the model. store: URL, by default
    a new SQLite file."""

    moves: int
    loads: int
    model: Path
    adapter: Path
    store: str | None


def main() -> int:
    options = parse_options()
    logging.disable(logging.WARNING)
    try:
        print(json.dumps(asyncio.run(measure(options))))
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse_options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.store.instances",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models, adapters = ROOT / "models", ROOT / "adapters"
    add = parser.add_argument
    add("--store", help="the store's URL (default: a new SQLite file)")
    add("--moves", type=int, default=300, help="moves of an alias (default: 300)")
    add("--loads", type=int, default=100, help="loads of an adapter (default: 100)")
    add("--model", type=Path, default=models / "smollm2-135m-instruct", help="its base model")
    add("--adapter", type=Path, default=adapters / "news-smollm2", help="the LoRA to load")
    return Options(**vars(parser.parse_args()))


async def measure(options: Options) -> dict[str, Any]:
    """Raises StartupError."""
    with TemporaryDirectory(prefix="frontpage-instances-") as folder:
        async with AsyncExitStack() as stack:
            services = [
                await start(stack, options, Path(folder), number) for number in range(INSTANCES)
            ]
            base = services[0].models.base.name
            moves = [
                await follow(services, number, a_move(number, base))
                for number in range(options.moves)
            ]
            loads = [
                await follow(services, number, a_load(number, options.adapter.name))
                for number in range(options.loads)
            ]
    return {"alias_moves": summary(moves), "adapter_loads": summary(loads)}


async def start(stack: AsyncExitStack, options: Options, folder: Path, number: int) -> Service:
    settings = Settings(
        model=options.model,
        state=folder / str(number),
        instance_name=str(number),
        store=options.store or f"sqlite:///{folder}/store.sqlite",
        reader_key="only-for-this-measurement",
        adapter_root=options.adapter.resolve().parent,
    )
    app = create_app(settings, FakeEngine())
    await stack.enter_async_context(app.router.lifespan_context(app))
    service: Service = app.state.service
    return service


Change = Callable[[Service], Awaitable[Callable[[Service], bool]]]
"""Makes a change at one instance; returns whether another has followed."""


def a_move(number: int, base: str) -> Change:
    async def move(at: Service) -> Callable[[Service], bool]:
        weights = await at.aliases.set("moved", {base: number + 1})
        return lambda other: other.models.aliases.get("moved") == weights

    return move


def a_load(number: int, path: str) -> Change:
    async def load(at: Service) -> Callable[[Service], bool]:
        version = (await at.adapters.load("loaded", path)).version
        return lambda other: any(model.version == version for model in other.models)

    return load


async def follow(services: list[Service], number: int, change: Change) -> tuple[float, float]:
    """Seconds until the call answered, and from then until the last instance had followed."""
    at = services[number % len(services)]
    started = time.perf_counter()
    has_followed = await change(at)
    answered = time.perf_counter()
    for other in services:
        while not has_followed(other):  # noqa: ASYNC110 (what is waited for raises no event)
            await asyncio.sleep(WATCH_S)
    return answered - started, time.perf_counter() - answered


def summary(found: list[tuple[float, float]]) -> dict[str, Any]:
    rows: dict[str, Any] = {"count": len(found)}
    for place, name in enumerate(("answered", "followed")):
        ordered = sorted(one[place] * 1e3 for one in found)
        rows |= {
            f"{name}_p50_ms": round(ordered[len(ordered) // 2]),
            f"{name}_p99_ms": round(ordered[len(ordered) * 99 // 100]),
        }
    return rows


if __name__ == "__main__":
    sys.exit(main())
