"""Threads beside the event loop."""

import asyncio
import gc
import weakref

import pytest

from app.engine.threads import in_thread, is_any_at_work
from tests.support.waiting import until

KEPT: list[Exception] = []


class Made:
    """What a thread makes."""


def make() -> Made:
    """As vLLM does when it is imported: an exception is kept, and with it the frames above."""
    try:
        raise ImportError("not here")
    except ImportError as error:
        KEPT.append(error)
    return Made()


async def test_what_a_thread_has_made_is_not_kept_by_its_frames() -> None:
    made = weakref.ref(await in_thread(make))
    await asyncio.sleep(0)  # until then, the event loop holds it
    await until(lambda: not is_any_at_work())
    gc.collect()
    assert KEPT
    assert made() is None


async def test_an_error_of_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
