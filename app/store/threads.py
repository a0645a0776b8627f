"""Threads that read from the store, and that a process does not wait for when it ends.

concurrent.futures waits for its threads at the end of the process, forever if a database hangs.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Value = TypeVar("Value")
Work = tuple[Callable[[], Any], Future[Any]]


class DaemonThreads:
    def __init__(self, count: int, name: str) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._count = count
        for number in range(count):
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def submit(self, work: Callable[[], Value]) -> "Future[Value]":
        """Have a thread call `work`. Cancelling the future drops work that has not begun."""
        future: Future[Value] = Future()
        self._queue.put((work, future))
        return future

    def stop(self) -> None:
        """End the threads once they have done what they were given; nobody waits for them."""
        for _ in range(self._count):
            self._queue.put(None)

    def _run(self) -> None:
        while do(self._queue.get()):
            pass


def do(item: Work | None) -> bool:
    """Do one piece of work, unless it is the end. A function of its own, so that a thread without
    work holds nothing of its last one."""
    if item is None:
        return False
    work, future = item
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
    return True
