"""The real engine stopped, killed and short of memory, its store away and its first stage broken,
while clients ask."""

import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from app.ranker.ranker import FIRST_STAGE_FILE
from loadtests.replicas.parts import wait_until
from tests.support.lost_engines import (
    asked,
    children,
    engine_of,
    metrics_of,
    probabilities,
    rank,
    ranked_models,
    replace_under_load,
    running,
    wait_for_more,
    wait_until_answering,
)
from tests.support.postgres import migrated, postgres_server
from tests.support.servers import Service
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


def test_an_engine_that_is_killed_again_while_it_starts_is_replaced(
    ranked: dict[str, str], tmp_path: Path
) -> None:
    replace_under_load(ranked, tmp_path, signal.SIGKILL, "died", times=2)


def test_a_hanging_engine_is_replaced_under_load_and_no_request_fails(
    ranked: dict[str, str], tmp_path: Path
) -> None:
    replace_under_load(ranked, tmp_path, signal.SIGSTOP, "hung", times=1)


def test_the_store_may_go_and_come_back_under_load(ranked: dict[str, str], tmp_path: Path) -> None:
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server())
        store = {"store": migrated(database), "reader_key": "k" * 32, "remember": "true"}
        service = stack.enter_context(running(tmp_path, ranked, **store))
        service.wait_until_ready()
        models = ["base", "news"]
        before = [probabilities(service, model) for model in models]
        with asked(service, models) as counts:
            wait_for_more(counts, degraded=False)
            database.stop()
            wait_until(lambda: lost_answers(service) > 0, HANG_S)
            wait_for_more(counts, degraded=False)
            assert [probabilities(service, model) for model in models] == before
            database.start()
            wait_for_more(counts, degraded=False)
        assert {status for status, _ in counts} == {200}
        assert [probabilities(service, model) for model in models] == before


def lost_answers(service: Service) -> float:
    """How often the store failed."""
    return metrics_of(service)["frontpage_store_failures_total"]


def test_with_a_broken_first_stage_the_service_says_so_and_serves_text_alone(
    ranked: dict[str, str], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(ranked["model"], tmp_path / "base"))
    file = model / FIRST_STAGE_FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with running(tmp_path, {**ranked, "model": str(model)}) as service:
        service.wait_until_ready()
        assert str(file) in service.log.read_text()
        with asked(service, ["base"]) as counts:
            wait_for_more(counts, degraded=False)
        assert set(counts) == {(200, False)}
        answer = rank(service, model="base")
        assert answer["ranker"] is False
        assert all(one["stage"] == "text" for one in answer["results"])
        assert rank(service, model="news")["ranker"] is True


def test_an_engine_killed_in_its_first_start_ends_the_service_with_one_line(
    ranked: dict[str, str], tmp_path: Path
) -> None:
    with running(tmp_path, ranked) as service:
        assert wait_until_answering(service)["degraded"]
        engine_of(service).kill()
        assert service.process.wait(HANG_S) == 1
        lines = service.log.read_text().splitlines()
        [line] = [line for line in lines if line.startswith("frontpage: error: ")]
        assert line.startswith("frontpage: error: the engine did not start: ")


@pytest.mark.parametrize("degraded", ["true", "false"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_model_loads_leaves_nothing_behind(
    ranked: dict[str, str], tmp_path: Path, degraded: str, sent: signal.Signals
) -> None:
    """Without degraded answers the port is not open yet. SIGTERM comes while vLLM is imported,
    SIGINT when its engine runs."""
    with running(tmp_path, ranked, degraded=degraded) as service:
        wait_until(lambda: "loading vLLM" in service.log.read_text(), HANG_S)
        if sent == signal.SIGINT:
            engine_of(service)
        left = children(service)
        service.process.send_signal(sent)
        assert service.process.wait(HANG_S) == 0
        psutil.wait_procs(left, HANG_S)
        assert not [one for one in left if one.is_running()]
        log = service.log.read_text()
        assert "ready: " not in log
        assert "Traceback" not in log
