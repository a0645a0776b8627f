"""Measure how soon the service answers after its start, and what readers notice of a killed engine.

  python -m loadtests.away --json runs/away.json

Starts `python -m app` and asks for a ranking until there is an answer, and until the language
model gives one. Then a few readers ask, each again 0.1 s after its last answer, the engine's
process gets SIGKILL, and they go on until the language model answers again.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
import psutil

from loadtests.limit.processes import environment
from loadtests.services import LoadTestError, clean_up_on_sigterm, free_port, last_line, running
from training.folders import write_whole
from training.provenance import commit

BODY = {
    "history": ["Tesla opens a plant", "SpaceX lands a rocket"],
    "candidates": ["Rain at the weekend", "Cup final goes to penalties", "Stocks fall"],
}
PAUSE_S = 0.1
STEADY_S = 5.0
"""For how long the readers ask before the engine is killed, and after it has come back."""


@dataclass
class Found:
    """Seconds, and how many answers there were: `full` and `degraded` ones, others by status.

    load: the machine's load average before and after, with the service's own part.
    """

    first_answer_s: float = 0.0
    language_model_s: float = 0.0
    back_s: float = 0.0
    slowest_s: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)


async def ask(session: aiohttp.ClientSession, url: str) -> str:
    """full, degraded, or the status of another answer."""
    async with session.post(f"{url}/rank", json=BODY) as answer:
        if answer.status != 200:
            return str(answer.status)
        return "degraded" if (await answer.json())["degraded"] else "full"


async def measure(
    url: str, readers: int, kill: Callable[[], None], is_alive: Callable[[], bool]
) -> Found:
    """kill: ends the engine. Raises LoadTestError if the service ends."""
    found, began = Found(load=[os.getloadavg()[0]]), time.monotonic()
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        kind = ""
        while kind != "full":
            if not is_alive():
                raise LoadTestError("the service has ended")
            try:
                kind = await ask(session, url)
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(PAUSE_S)
                continue
            found.first_answer_s = found.first_answer_s or time.monotonic() - began
            await asyncio.sleep(PAUSE_S)
        found.language_model_s = time.monotonic() - began
        await lose(session, url, readers, kill, found)
    found.load.append(os.getloadavg()[0])
    return found


async def lose(
    session: aiohttp.ClientSession, url: str, readers: int, kill: Callable[[], None], found: Found
) -> None:
    enough, killed, back = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read() -> None:
        missed = False
        while not enough.is_set():
            sent = time.monotonic()
            kind = await ask(session, url)
            found.answers[kind] = found.answers.get(kind, 0) + 1
            found.slowest_s = max(found.slowest_s, time.monotonic() - sent)
            missed |= killed.is_set() and kind != "full"
            if missed and kind == "full":
                back.set()
            await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as asking:
        for _ in range(readers):
            asking.create_task(read())
        await asyncio.sleep(STEADY_S)
        kill()
        lost = time.monotonic()
        killed.set()
        await back.wait()
        found.back_s = time.monotonic() - lost
        await asyncio.sleep(STEADY_S)
        enough.set()


def kill_engine(pid: int) -> None:
    """pid: of the service. Raises LoadTestError if it has no engine."""
    children = psutil.Process(pid).children(recursive=True)
    engines = [one for one in children if "EngineCore" in one.name()]
    if not engines:
        raise LoadTestError("the service has no engine process")
    engines[0].kill()


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    options.out.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), options.out / "log"
    own = {"FRONTPAGE_PORT": str(port), "FRONTPAGE_STATE": str(options.out / "state")}
    settings = {**environment(), **own, "FRONTPAGE_MODEL": str(options.model)}
    try:
        with running(["app"], settings, log) as service:
            url = f"http://127.0.0.1:{port}"
            work = measure(
                url,
                options.readers,
                lambda: kill_engine(service.pid),
                lambda: service.poll() is None,
            )
            record = as_json(asyncio.run(work), options.commit or commit())
    except (LoadTestError, aiohttp.ClientError) as error:
        print(f"error: {error}; see {log}, which ends {last_line(log)!r}", file=sys.stderr)
        return 2
    write_whole(options.json, record + "\n")
    print(record)
    return 0


def as_json(found: Found, commit: str | None) -> str:
    return json.dumps(asdict(found) | {"commit": commit}, indent=1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.away",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "(default: %(default)s)"
    add = parser.add_argument
    add("--model", type=Path, default=Path("models/news-smollm2"), help=f"model folder {default}")
    add("--readers", type=int, default=4, help=f"who ask at once {default}")
    add("--json", type=Path, metavar="FILE", default=Path("runs/away.json"), help=default)
    add("--out", type=Path, default=Path("runs/away"), help=f"folder for the log {default}")
    add("--commit", help="commit of the code, if it cannot be read from git")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
