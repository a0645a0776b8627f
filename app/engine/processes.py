"""The processes that an engine consists of."""

import signal
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import resource_tracker

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


def keep_interrupts_from_children() -> None:
    """Let no process that this thread starts from now on see SIGINT.

    Ctrl-C goes to each process of the terminal. The service handles it and ends its engine in
    order; an engine that had ended itself before would leave tracebacks.
    """
    resource_tracker.ensure_running()  # otherwise it is started later, and lifts this again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, which ends stopped processes too."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
