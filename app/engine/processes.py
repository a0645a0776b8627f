"""The processes that an engine consists of."""

import multiprocessing
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.process import BaseProcess

import psutil


def children() -> list[BaseProcess]:
    """The processes that this one has started with multiprocessing; only engines do so here."""
    return list(multiprocessing.active_children())


def kill_all(processes: Iterable[BaseProcess]) -> None:
    """SIGKILL for processes, stopped ones too, and for all that they have started."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.pid is not None and process.is_alive():
                first = psutil.Process(process.pid)
                for one in (*first.children(recursive=True), first):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
