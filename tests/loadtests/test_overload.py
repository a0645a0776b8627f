"""loadtests.overload on the fake engine with a small real ranker, and its figures."""

import argparse
import asyncio

import pytest

from app.engine.fake import FakeEngine
from app.settings import Limits
from loadtests.limit.open_load import NO_ANSWER, Answer, send_open
from loadtests.limit.requests import rank
from loadtests.limit.workload import Workload
from loadtests.overload import Figures, as_table, measure, summary
from loadtests.services import LoadTestError, free_port
from loadtests.traffic import EXAMPLE_MIND
from tests.loadtests.conftest import Serve
from tests.support.models import SMOLLM2

OPTIONS = argparse.Namespace(
    candidates=5, times=20.0, seconds=1.0, capacity_seconds=0.3, at_once=1, unknown=False
)


async def overload(serve: Serve, engine: FakeEngine, options: argparse.Namespace) -> Figures:
    """Of a service whose language model has one ranking at a time."""
    workload = Workload(SMOLLM2, EXAMPLE_MIND, 3, 50)
    async with serve(limits=Limits(max_pending_tokens=1)) as url:
        engine.latency_seconds = 0.1
        return await asyncio.to_thread(measure, url, workload, options)


async def test_what_is_too_much_for_the_language_model_is_still_answered(
    serve: Serve, engine: FakeEngine
) -> None:
    found = await overload(serve, engine, OPTIONS)
    assert found.statuses == {200: round(found.capacity[0] * 20)}
    assert found.answered_share == 1
    assert found.judged
    assert found.degraded
    assert min(found.judged) >= 100 > min(found.degraded)


async def test_a_closed_load_beyond_the_capacity_is_an_error(
    serve: Serve, engine: FakeEngine
) -> None:
    options = argparse.Namespace(**vars(OPTIONS) | {"at_once": 2})
    with pytest.raises(LoadTestError, match="/rank answers 503"):
        await overload(serve, engine, options)


def test_figures_of_answers() -> None:
    answers = [
        Answer(0.0, 1.0, 200, degraded=False),
        Answer(0.5, 2.5, 200, degraded=False),  # after the last request was due
        Answer(1.0, 1.01, 200, degraded=True),
        Answer(1.5, 1.6, 503, degraded=False),
    ]
    found = summary(answers, 2.0, 2.0, (0.4, 0.6))
    assert found.judged_per_s == 0.5
    assert found.capacity_share == 1.0
    assert found.answered_share == 0.75
    assert found.judged == [1000, 2000]
    assert found.degraded == pytest.approx([10])
    table = as_table(found)
    assert "| answered with 200 | 75.0% |" in table
    assert "| other answers | 1 × 503 |" in table
    assert "| by the language model, p50, p95 ms | 1,500, 1,950 |" in table
    assert "| degraded, p50, p95 ms | 10, 10 |" in table


async def test_a_service_that_is_gone_gives_no_answers(workload: Workload) -> None:
    asked = rank(workload.questions("gone", 2))
    answers = await send_open(f"http://127.0.0.1:{free_port()}", asked, 20, 0.2)
    assert [one.status for one in answers] == [NO_ANSWER] * 4
    found = summary(answers, 20, 0.2, (1.0, 1.0))
    assert found.answered_share == 0
    assert "| degraded, p50, p95 ms | – |" in as_table(found)
