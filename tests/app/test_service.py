"""The parts' start and stop: what was started is stopped when anything after it fails."""

from collections.abc import Sequence

import pytest

from app.engine.fake import FakeEngine
from app.errors import StartupError
from app.main import create_app
from app.service import Service
from app.settings import Settings


class Unlabelled(FakeEngine):
    async def use_labels(self, token_ids: Sequence[int]) -> None:
        raise RuntimeError("the worker has no such method")


class HalfStarted(FakeEngine):
    async def start(self) -> None:
        raise StartupError("the engine did not start")


class Short(FakeEngine):
    max_prompt_tokens = 5


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        (Unlabelled(), "no such method"),
        (HalfStarted(), "did not start"),
        (Short(), "smollm2-135m-instruct can't score a story"),
    ],
    ids=["labels", "engine", "first score"],
)
async def test_a_start_that_fails_stops_the_engine(
    settings: Settings, engine: FakeEngine, complaint: str
) -> None:
    service: Service = create_app(settings, engine).state.service
    with pytest.raises((StartupError, RuntimeError), match=complaint):
        async with service.running():
            pytest.fail("it is running")
    assert engine.dead
    assert service.supervision.state == "loading"
