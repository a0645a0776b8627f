"""The real engine killed and short of memory while clients ask. tests/slow has more faults."""

import signal
from pathlib import Path

import psutil
import pytest

from tests.support.lost_engines import (
    engine_of,
    ranked_models,
    replace_under_load,
    running,
    wait_until_answering,
)
from tests.support.shared_services import TinyModels
from tests.support.waiting import HANG_S


@pytest.fixture(scope="module")
def ranked(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return ranked_models(tiny_models, tmp_path_factory.mktemp("ranked"))


def test_a_killed_engine_is_replaced_under_load_and_no_request_fails(
    ranked: dict[str, str], tmp_path: Path
) -> None:
    replace_under_load(ranked, tmp_path, signal.SIGKILL, "died", times=1)


def starve(engine: psutil.Process) -> None:
    """No more address space than it has."""
    size = engine.memory_info().vms
    engine.rlimit(psutil.RLIMIT_AS, (size, size))


def test_an_engine_without_memory_in_its_first_start_ends_the_service_with_one_line(
    ranked: dict[str, str], tmp_path: Path
) -> None:
    with running(tmp_path, ranked) as service:
        assert wait_until_answering(service)["degraded"]
        starve(engine_of(service))
        assert service.process.wait(HANG_S) == 1
        lines = service.log.read_text().splitlines()
        [line] = [line for line in lines if line.startswith("frontpage: error: ")]
        assert line.startswith("frontpage: error: the engine did not start: ")
