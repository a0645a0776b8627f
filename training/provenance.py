"""Which code ran on which machine, for the records of runs. The standard library alone."""

import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The machine a command ran on.

    device: the GPU's name, or without one the processor's. gpus: how many GPUs were visible.
    processes: how many processes shared the work. threads: processor threads of each process.
    """

    device: str
    gpus: int = 0
    processes: int = 1
    threads: int


def commit() -> str | None:
    """The code's git commit, with -dirty where its files differ; None outside a repository."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """The processor's name as Linux gives it; elsewhere the kind of machine, such as arm64."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Version by name, of those of the packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
