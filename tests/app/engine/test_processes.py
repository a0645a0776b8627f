"""The engine's processes, and what they say at their end."""

import multiprocessing
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from app.engine.processes import keep_interrupts_from_children
from tests.support.models import ROOT

LEAVES_MEMORY = """
from app.engine.environment import be_quiet

be_quiet()

import os
from multiprocessing.shared_memory import SharedMemory

SharedMemory(create=True, size=64)
os._exit(0)
"""


def blocked() -> set[int]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def blocked_in_a_child() -> set[int]:
    """The signals that do not reach a process which this thread starts as vLLM does."""
    keep_interrupts_from_children()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(blocked)


def test_ctrl_c_does_not_reach_a_process_that_the_engine_starts() -> None:
    with ThreadPoolExecutor(1) as thread:
        assert signal.SIGINT in thread.submit(blocked_in_a_child).result()
    assert signal.SIGINT not in blocked(), "this process still sees it"


def test_shared_memory_that_is_left_is_removed_without_a_word() -> None:
    command = [sys.executable, "-c", LEAVES_MEMORY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
