"""Can a request break the service, or stay in its memory? `make fuzz`

Sends thousands of requests that were made from valid ones by putting wrong things into them (see
mutations.py), to all routes of the default service on the real engine. It fails, with a line for
each request at fault, if

- an answer is a 5xx that is no outage (503 overloaded and 504 deadline_exceeded are), breaks off,
  or is not what it says it is;
- the service answers differently after it than before, or has lost its engine;
- the same requests once more make the resident memory of its processes grow by more than 20 MB.

A request is repeated by its number: `python -m tests.fuzz --only 123 --seed 1`. `--url` takes a
service that is already running; its memory is then not looked at.
"""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from tests.fuzz.judge import run
from tests.fuzz.templates import READER, STORY
from tests.support.servers import start_service, stopped_at_end

# vLLM's cache takes memory whenever a block is used for the first time. With room for little more
# than the longest prompt, all of it is soon in use.
SMALL_CACHE = {"engine__num_gpu_blocks_override": "300"}
MAX_GROWTH = 20_000_000


def resident(pid: int) -> Counter[str]:
    """Bytes of the process and those below it, by their names."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return Counter({f"{one.name()} {one.pid}": one.memory_info().rss for one in family})


async def probability(client: httpx.AsyncClient) -> float:
    answer = await client.post("/predict", json={**READER, "target": STORY})
    return float(answer.raise_for_status().json()["probability"])


async def fuzz(url: str, seed: int, numbers: range, pid: int | None) -> bool:
    """Returns whether nothing was at fault. pid: of the service, if its memory counts."""
    grown = 0
    async with httpx.AsyncClient(base_url=url, timeout=None) as client:
        expected = await probability(client)
        statuses, faults = await run(client, seed, numbers)
        if pid is not None:  # once more: what is kept for good, such as grammars, is there now
            before = resident(pid)
            faults += (await run(client, seed, numbers))[1]
            growth = {name: size - before[name] for name, size in resident(pid).items()}
            grown = sum(growth.values())
            parts = ", ".join(f"{name} {size / 1e6:+.1f}" for name, size in growth.items())
            print(f"resident memory: {grown / 1e6:+.1f} MB ({parts})")
        change = abs(await probability(client) - expected)
    print(f"answers by status: {dict(sorted(statuses.items()))}; {faults} at fault")
    print(f"/predict has changed by {change:.1e}")
    return not faults and grown <= MAX_GROWTH and change < 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the service.")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of the one request to send")
    parser.add_argument("--url", help="of a running service; default: start one")
    options = parser.parse_args()
    only = options.only
    numbers = range(options.requests) if only is None else range(only, only + 1)
    if options.url:
        return 0 if asyncio.run(fuzz(options.url, options.seed, numbers, None)) else 1
    with (
        TemporaryDirectory(prefix="frontpage-fuzz-") as folder,
        stopped_at_end(start_service(Path(folder) / "log", **SMALL_CACHE)) as service,
    ):
        service.wait_until_ready()
        pid = service.process.pid if only is None else None
        return 0 if asyncio.run(fuzz(service.url, options.seed, numbers, pid)) else 1


if __name__ == "__main__":
    sys.exit(main())
