"""Long commands in processes of their own, which run beside the tests of training.

These keep one thread busy. A command begins with the first of them and is waited for where its
results are looked at; as there may be only two cores, one command runs at a time.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

LIMIT_S = 1800  # only ends a command that hangs
# Tiny models gain from no more than one thread, and vLLM's would wait for each other on busy cores.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


class Beside:
    """Commands begun, which are not over yet."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._process: subprocess.Popen[str] | None = None

    def begin(self, command: Sequence[str], folder: Path, **environment: str) -> Future[str]:
        """All that it prints; AssertionError with the end of that where it fails."""
        clean = {name: v for name, v in os.environ.items() if not name.startswith("FRONTPAGE_")}
        return self._pool.submit(self._run, command, folder, clean | ENVIRONMENT | environment)

    def stop(self) -> None:
        """Ends what still runs: nobody waits for it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
        self._process = process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            found, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            found, _ = process.communicate()
            raise AssertionError(f"not done in time:\n{found[-8000:]}") from None
        assert process.returncode == 0, found[-8000:]
        return found
