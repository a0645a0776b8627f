"""Starting and stopping the services and other processes that load tests measure.

Imports only the standard library, because loadtests.training.prepare also runs in a Python
interpreter that does not have the project's dependencies.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 1800  # Only ends a start that hangs: large models take long to compile.


class LoadTestError(Exception):
    """The load test cannot go on. The message is one line that says what to change."""


@contextmanager
def serving(
    words: Sequence[str], settings: Mapping[str, str], port: int, path: str, log: Path
) -> Iterator[tuple[str, int]]:
    """Run `python -m WORDS` and yield its URL and process ID once `path` answers.

    settings: the whole environment of the process. Raises LoadTestError if the process ends or
    READY_SECONDS pass before it answers.
    """
    url = f"http://127.0.0.1:{port}"
    with running(words, settings, log) as process:
        deadline = time.monotonic() + READY_SECONDS
        while not answers(url + path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LoadTestError(
                    f"{words[0]} did not start; see {log}, which ends {last_line(log)!r}"
                )
            time.sleep(0.5)
        yield url, process.pid


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def running(
    words: Sequence[str], settings: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m WORDS` in its own process group, so that its engine can be killed too."""
    command = [sys.executable, "-m", *words]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=out, stderr=out, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def clean_up_on_sigterm() -> None:
    """Make SIGTERM unwind the stack as Ctrl-C does, so that the processes started are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def last_line(log: Path) -> str:
    """The last line of the file that is not blank; empty if there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")
