"""Processes that load tests start: what is said of one that does not come up, and what stays."""

import os
import time
from pathlib import Path

import psutil
import pytest

from loadtests.services import LoadTestError, answers, free_port, running, serving
from tests.support.waiting import HANG_S


def test_a_service_is_given_once_it_answers_and_ended_afterwards(tmp_path: Path) -> None:
    port = free_port()
    words = ["http.server", str(port), "--bind", "127.0.0.1"]
    with serving(words, dict(os.environ), port, "/README.md", tmp_path / "log") as (url, pid):
        assert answers(f"{url}/README.md")
        assert psutil.pid_exists(pid)
    assert not answers(f"{url}/README.md")


def test_one_that_ends_at_once_is_told_with_its_last_line(tmp_path: Path) -> None:
    words, log = ["json.tool", "nothing.json"], tmp_path / "log"
    with (
        pytest.raises(LoadTestError, match=r"json\.tool did not start; see .*nothing\.json"),
        serving(words, dict(os.environ), free_port(), "/", log),
    ):
        pass


def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    """An engine outlives a service that is killed or too slow to end."""
    statement = "__import__('subprocess').run(['sleep', '3600'])"
    words = ["timeit", "-n1", "-r1", statement]
    with running(words, dict(os.environ), tmp_path / "log") as process:
        parent, deadline = psutil.Process(process.pid), time.monotonic() + HANG_S
        while not (children := parent.children()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    (child,) = children
    while is_at_work(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_at_work(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
