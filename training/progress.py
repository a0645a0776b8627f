"""Lines that tell what a long command is doing, and which process says them."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST_S = 5.0
EVERY_S = 10.0
"""After how many seconds work that lasts says how far it is, at first and then again and again."""
running: list["Progress"] = []
"""What is at work now, the innermost last."""


def say(text: str) -> None:
    """Print a line to stderr at once, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def is_first_process() -> bool:
    """Whether this is the first of the processes that share the work, or the only one."""
    return os.environ.get("RANK", "0") == "0"


class Progress:
    """How far some work is. total: in what `unit` counts; 0 where that is unknown."""

    def __init__(self, what: str, total: int = 0, unit: str = "") -> None:
        self.what = what
        self.begin(total, unit)
        self.said = self.started - EVERY_S + FIRST_S
        """When a line was last printed, here or by whoever sets this."""

    def begin(self, total: int, unit: str) -> None:
        """Count from now on."""
        self.total, self.unit, self.done = total, unit, 0
        self.started = time.perf_counter()

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.done += count

    def line(self) -> str:
        """What is done, at which rate, and how long the rest takes if it goes on like this."""
        seconds = time.perf_counter() - self.started
        if not self.total:
            return f"{self.what}: at work for {seconds:.0f} s"
        so_far = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}"
        if not self.done:
            return f"{so_far} after {seconds:.0f} s"
        left = seconds / self.done * (self.total - self.done)
        return f"{so_far}, {describe_rate(self.done / seconds)}, {describe_duration(left)} left"

    def report(self) -> None:
        """Print the line now."""
        self.said = time.perf_counter()
        say(self.line())


def describe_rate(per_second: float) -> str:
    """A rate with two or more digits that mean something, also of slow work."""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def describe_duration(seconds: float) -> str:
    """Seconds as `40 s`, `12 min` or `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def progress(what: str, total: int = 0, unit: str = "") -> Iterator[Progress]:
    """While the block runs, print how far it is after FIRST_S seconds and then every EVERY_S.

    A thread does this, so that it goes on while a library works for long without a word. Only the
    first process prints, and of blocks in blocks only the innermost. The block calls `advance` of
    what it gets.
    """
    work, ended = Progress(what, total, unit), threading.Event()

    def watch() -> None:
        while not ended.wait(max(0.2, work.said + EVERY_S - time.perf_counter())):
            is_due = time.perf_counter() - work.said >= EVERY_S
            if is_due and running and running[-1] is work:
                work.report()

    running.append(work)
    if is_first_process():
        threading.Thread(target=watch, name=f"progress of {what}", daemon=True).start()
    try:
        yield work
    finally:
        ended.set()
        running.remove(work)
