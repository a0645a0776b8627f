"""Which code ran on which processor, for records of runs. The standard library alone."""

import platform
import subprocess
from pathlib import Path


def commit() -> str | None:
    """The code's git commit, with -dirty where files of it differ; None outside a repository."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """Its name as Linux has it, elsewhere the kind of machine, such as arm64."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
