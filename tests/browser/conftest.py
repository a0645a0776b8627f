"""Chromium, and a service on the fake engine where faults are needed."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.async_api import Browser, async_playwright

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Settings
from tests.support.models import SMOLLM2
from tests.support.rankers import MODEL, make_tower, write_model
from tests.support.servers import serving
from tests.support.tiny_encoder import make_tiny_encoder
from tests.support.visits import CHROMIUM

SHORTLIST = 4
"""How many stories the language model of `ranked` judges."""


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        await found.close()


class Serve(Protocol):
    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[str]:
        """The URL of a service with these settings."""


@pytest.fixture
def serve(engine: FakeEngine, tmp_path: Path) -> Serve:
    """On the fake engine of the fixture `engine`, whose faults a test can set."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[str]:
        usual = {"model": SMOLLM2, "state": tmp_path / "state"}
        app = create_app(Settings(**usual | settings), engine)
        async with serving(app) as url:
            yield url

    return start


@pytest.fixture
def ranked(tmp_path: Path) -> dict[str, Any]:
    """Settings of a model with a ranker."""
    folder = tmp_path / "tiny-encoder"
    folder.mkdir()
    encoder = make_tiny_encoder(folder)
    model = write_model(tmp_path / MODEL, encoder, make_tower(encoder))
    return {"model": model, "encoder": encoder, "shortlist": SHORTLIST}
