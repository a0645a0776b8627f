"""The processes that `loadtests.limit` starts one after the other: our service and its peers."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.engine.environment import QUIET
from loadtests.limit.machine import Setup
from loadtests.limit.requests import SERVED_NAME
from loadtests.services import READY_SECONDS, LoadTestError, free_port, last_line, running, serving

EVERY_STORY = {
    # What is measured is the language model, on every story of a request.
    "FRONTPAGE_SHORTLIST": "1000",
    "FRONTPAGE_DEGRADED": "false",
}
NO_LIMITS = {
    # A closed load waits for its turn. Refusals and deadlines are for other tests.
    "FRONTPAGE_LIMITS__MAX_PENDING_TOKENS": "1000000000",
    "FRONTPAGE_LIMITS__MAX_PENDING_REQUESTS": "1000000",
    "FRONTPAGE_LIMITS__TIMEOUT_MS": "600000",
    **EVERY_STORY,
}


@contextmanager
def our_service(
    setup: Setup, folder: Path, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, int]]:
    """Run our service; yields its URL and process ID. more: further settings, as variables."""
    port, state = free_port(), folder / "state"
    shutil.rmtree(state, ignore_errors=True)  # each run starts without kept answers
    settings = {
        **environment(),
        **NO_LIMITS,
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": setup.model,
        "FRONTPAGE_ENGINE": json.dumps(setup.engine),
        "FRONTPAGE_STATE": str(state),
        **more,
    }
    with serving(["app"], settings, port, "/ready", folder / "http.log") as served:
        yield served


@contextmanager
def usual_service(
    model: Path, folder: Path, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """Run our service with its own limits on what is pending; yields its URL. more: further
    settings, as variables."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        **environment(),
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": str(model.resolve()),
        "FRONTPAGE_STATE": str(folder / "state"),
        **more,
    }
    with serving(["app"], settings, port, "/ready", folder / "log") as (url, _):
        yield url


@contextmanager
def vllm_server(
    setup: Setup, options: Mapping[str, Any], preload: str, folder: Path
) -> Iterator[tuple[str, int]]:
    """Run vLLM's own server with the same engine options. preload: value of LD_PRELOAD."""
    port = free_port()
    words = ["vllm.entrypoints.openai.api_server", "--model", setup.model, "--port", str(port)]
    words += ["--host", "127.0.0.1", "--served-model-name", SERVED_NAME]
    words += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log", *as_flags(options)]
    with serving(words, environment(preload), port, "/health", folder / "vllm.log") as served:
        yield served


@contextmanager
def plain_server(setup: Setup, preload: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Run the chat server on transformers. preload: value of LD_PRELOAD."""
    port = free_port()
    words = ["loadtests.limit.plain_server", setup.model, str(port)]
    words += ["--dummy"] if setup.engine.get("load_format") == "dummy" else []
    log = folder / "transformers.log"
    with serving(words, environment(preload), port, "/health", log) as served:
        yield served


def as_flags(options: Mapping[str, Any]) -> list[str]:
    """Options of vLLM in the form of its command line."""
    flags = []
    for name, value in options.items():
        word = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{word}" if value else f"--no-{word}")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flags += [f"--{word}", text]
    return flags


def environment(preload: str = "") -> dict[str, str]:
    """Our environment without the service's settings, so that runs are comparable."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FRONTPAGE_")}
    return {**QUIET, **own, **({"LD_PRELOAD": preload} if preload else {})}


def run_worker(part: str, setup: Setup, folder: Path) -> Iterator[dict[str, Any]]:
    """Run one part of loadtests.limit.engines in a process and yield the records that it wrote.

    Raises LoadTestError after the last record if the process failed.
    """
    file, log = folder / f"{part}.jsonl", folder / f"{part}.log"
    file.unlink(missing_ok=True)
    words = ["loadtests.limit.engines", part, json.dumps(asdict(setup)), str(file)]
    failure = ""
    with running(words, environment(), log) as process:
        try:
            if process.wait(READY_SECONDS + 60 * setup.seconds):
                failure = f"failed; see {log}, which ends {last_line(log)!r}"
        except subprocess.TimeoutExpired:
            failure = f"took too long; see {log}"
    if file.exists():
        yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())
    if failure:
        raise LoadTestError(failure)
