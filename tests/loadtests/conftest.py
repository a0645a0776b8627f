"""The model and the questions of loadtests.limit, and a service with a ranker, for tests."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Settings
from loadtests.limit.workload import Workload, prepare_model
from loadtests.traffic import EXAMPLE_MIND
from tests.support.models import SMOLLM2
from tests.support.rankers import MODEL, make_tower, write_model
from tests.support.servers import serving
from tests.support.tiny_encoder import make_tiny_encoder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_model(SMOLLM2, "compact", 20, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def workload(model: Path) -> Workload:
    return Workload(model, EXAMPLE_MIND, 20)


class Serve(Protocol):
    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[str]:
        """The URL of a service with these settings."""


@pytest.fixture(scope="session")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with a ranker, and the ranker's sentence encoder."""
    encoder = make_tiny_encoder(tmp_path_factory.mktemp("tiny-encoder"))
    model = tmp_path_factory.mktemp("ranked") / MODEL
    return write_model(model, encoder, make_tower(encoder)), encoder


@pytest.fixture
def serve(engine: FakeEngine, tmp_path: Path, ranked: tuple[Path, Path]) -> Serve:
    """On the fake engine of the fixture `engine`, by default with a ranker."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[str]:
        model, encoder = ranked
        usual = {"model": model, "encoder": encoder, "state": tmp_path / "state"}
        async with serving(create_app(Settings(**usual | settings), engine)) as url:
            yield url

    return start
