import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.engine.fake import FakeEngine
from app.main import create_app
from app.scoring.prompt import Encoder
from app.settings import Settings
from tests.models import SMOLLM2, qwen3_tokenizer_files
from tests.servers import Service, start_service, stopped_at_end


@pytest.fixture(scope="session")
def smollm2() -> Encoder:
    return Encoder(SMOLLM2 / "tokenizer.json")


@pytest.fixture(scope="session")
def qwen3() -> Encoder:
    return Encoder(qwen3_tokenizer_files() / "tokenizer.json")


@pytest.fixture(scope="module")
def default_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`make serve`: the default model on the real engine, without keys."""
    log = tmp_path_factory.mktemp("default") / "log"
    with stopped_at_end(start_service(log)) as service:
        service.wait_until_ready()
        yield service


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model=SMOLLM2, state=tmp_path / "state")


@pytest.fixture
async def app(settings: Settings, engine: FakeEngine) -> AsyncIterator[FastAPI]:
    application = create_app(settings, engine)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as session:
        yield session


@pytest.fixture
def reader() -> dict[str, Any]:
    return {
        "history": ["Tesla opens a plant", "SpaceX lands a rocket"],
        "liked": ["Apple shows a phone"],
        "disliked": ["Rain at the weekend"],
    }


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No FRONTPAGE_ variable of the outside reaches a test."""
    for name in [name for name in os.environ if name.startswith("FRONTPAGE_")]:
        monkeypatch.delenv(name)
