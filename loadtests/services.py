"""Services that a comparison starts itself."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
READY_SECONDS = 900  # a large model, compiled


class LoadTestError(Exception):
    """One line on what to change."""


@contextmanager
def serving(model: Path, adapters: Sequence[Path], memory: float, log: Path) -> Iterator[str]:
    """`python -m app` with these folders; gives its URL once it is ready. memory: its share of the
    GPU's, unless the environment says otherwise."""
    for folder in (model, *adapters):
        if not folder.is_dir():
            raise LoadTestError(f"no folder {folder}: a variant is NAME=URL#MODEL or NAME=FOLDER")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "FRONTPAGE_ENGINE__GPU_MEMORY_UTILIZATION": f"{memory:.2f}",
        **os.environ,
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": str(model.resolve()),
        "FRONTPAGE_ADAPTERS": json.dumps({one.name: str(one.resolve()) for one in adapters}),
    }
    command = [sys.executable, "-m", "app"]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, env=settings, stdout=out, stderr=out) as process,
    ):
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise LoadTestError(f"a service did not start; see {log}, which ends with {last_line(log)!r}")


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")
