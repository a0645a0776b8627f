import os
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.engine.fake import FakeEngine
from app.main import create_app
from app.models import folders
from app.scoring.encoder import Encoder
from app.settings import Settings
from app.store import database
from app.store.store import Store
from tests.support.models import SMOLLM2, qwen3_tokenizer_files
from tests.support.postgres import Postgres, migrated, postgres_server
from tests.support.servers import Service, client_of
from tests.support.shared_services import SharedServices, TinyModels
from tests.support.stores import with_tables
from tests.support.waiting import HeldEngine


@pytest.fixture(scope="session")
def smollm2() -> Encoder:
    return Encoder(SMOLLM2 / "tokenizer.json")


@pytest.fixture(scope="session")
def qwen3() -> Encoder:
    return Encoder(qwen3_tokenizer_files() / "tokenizer.json")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def shared_services(
    request: pytest.FixtureRequest,
    tiny_models: TinyModels,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SharedServices]:
    used = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    services = SharedServices(tmp_path_factory.mktemp("services"), tiny_models, used)
    yield services
    services.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that all tests share: none may stop it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store without rows, on each of the two databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return migrated(server)


@pytest.fixture
def default_service(shared_services: SharedServices) -> Service:
    """`make serve`: the default model on the real engine, without keys."""
    return shared_services.get("default_service")


@pytest.fixture
def tiny_service(shared_services: SharedServices) -> Service:
    """A tiny random model with the adapters `first` and `second`, and keys."""
    return shared_services.get("tiny_service")


@pytest.fixture
def merged_service(shared_services: SharedServices) -> Service:
    """`first` merged into the tiny model, by the name `news`."""
    return shared_services.get("merged_service")


@pytest.fixture(scope="session", autouse=True)
def one_encoder_a_tokenizer() -> Iterator[None]:
    """To read a tokenizer takes half a second, and hundreds of tests make an application."""

    @cache
    def read(file: Path, changed: int) -> Encoder:
        return Encoder(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "Encoder", lambda file: read(file, file.stat().st_mtime_ns))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_migration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """To make the tables of a new SQLite file takes a while, and hundreds of tests start a store on
    one. They get copies; tests of migrations open their databases themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "head", cache(database.head))
        patch.setattr(Store, "start", with_tables(tmp_path_factory.mktemp("tables"), Store.start))
        yield


@pytest.fixture
def engine() -> HeldEngine:
    return HeldEngine()


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
    async with client_of(app) as session:
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
