"""The processes that an engine consists of."""

from collections.abc import Iterable
from contextlib import suppress

import psutil

TRACKER = "multiprocessing.resource_tracker"
"""A helper of Python's own, which outlives engines."""


def descendants() -> set[psutil.Process]:
    """The processes that this one and its children have started; only engines do so in the
    service."""
    return {one for one in psutil.Process().children(recursive=True) if not is_tracker(one)}


def is_tracker(process: psutil.Process) -> bool:
    try:
        return any(TRACKER in part for part in process.cmdline())
    except psutil.Error:  # it has ended
        return False


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, which ends stopped processes too."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
