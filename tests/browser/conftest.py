"""Chromium, the real service in it, and one on the fake engine where faults are needed."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.async_api import Browser, async_playwright

from app.engine.fake import FakeEngine
from app.main import create_app
from app.security import new_key
from app.settings import Settings
from tests.browser.visits import CHROMIUM
from tests.models import SMOLLM2, make_lora, make_tiny_qwen3
from tests.servers import Service, serving, start_service, stopped_at_end

READER_KEY, READER = new_key("reader", "predict")
ADMIN_KEY, ADMIN = new_key("admin", "admin")
KEYS = (READER, ADMIN)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        await found.close()


@pytest.fixture(scope="module")
def news(default_service: Service) -> Service:
    return default_service


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Real engine, a tiny random model, the adapter `first`; `second` can be loaded; with keys."""
    root = tmp_path_factory.mktemp("tiny")
    base = make_tiny_qwen3(root / "tiny-qwen3")
    for seed, name in enumerate(("first", "second"), start=1):
        make_lora(base, root / name, seed=seed)
    service = start_service(
        root / "log",
        model=str(base),
        adapters=json.dumps({"first": str(root / "first")}),
        adapter_root=str(root),
        max_adapters="1",
        api_keys=json.dumps([key.model_dump(mode="json", exclude_none=True) for key in KEYS]),
    )
    with stopped_at_end(service):
        service.wait_until_ready()
        yield service


class Serve(Protocol):
    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[str]:
        """The URL of a service with these settings."""


@pytest.fixture
def serve(engine: FakeEngine, tmp_path: Path) -> Serve:
    """On the fake engine of the fixture `engine`, whose faults a test can set."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[str]:
        app = create_app(Settings(model=SMOLLM2, state=tmp_path / "state", **settings), engine)
        async with serving(app) as url:
            yield url

    return start
