"""Work of seconds to minutes beside the event loop. The process does not wait for it at its end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")
NAME = "engine-start"


def in_thread(work: Callable[[], Value]) -> asyncio.Future[Value]:
    """Have a daemon thread call `work`, which goes on if the future is cancelled."""
    found: Future[Value] = Future()
    found.set_running_or_notify_cancel()
    threading.Thread(target=do, args=(work, found), name=NAME, daemon=True).start()
    return asyncio.wrap_future(found)


def do(work: Callable[[], Value], found: Future[Value]) -> None:
    """Set a future to what `work` returns or raises."""
    try:
        found.set_result(work())
    except BaseException as error:
        found.set_exception(error)
    finally:
        # Exceptions that vLLM has caught and kept while it was imported hold this frame.
        del work, found


def is_any_at_work() -> bool:
    """Whether such a thread runs. Python must not shut down then: a library that is just being
    imported could crash it."""
    return any(thread.name == NAME for thread in threading.enumerate())
