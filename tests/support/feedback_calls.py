"""Services and stores of feedback for tests, and calls of their routes."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app.engine.fake import FakeEngine
from app.feedback.store import FeedbackStore
from app.main import create_app
from app.settings import Settings
from tests.support.models import SMOLLM2
from tests.support.servers import started

Json = dict[str, Any]
MODEL = "smollm2-135m-instruct"
DAY = 86400.0


@asynccontextmanager
async def service(state: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(model=SMOLLM2, state=state, **settings), FakeEngine())
    async with started(app) as client:
        yield client


@contextmanager
def running(file: Path, days: float = 30, answers: int = 1000) -> Iterator[FeedbackStore]:
    store = FeedbackStore(file, days, answers)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"frontpage_feedback_{name}_total", labels) or 0.0


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


async def rank(client: httpx.AsyncClient, titles: list[str], **fields: Any) -> Json:
    body: Json = (await client.post("/rank", json={"candidates": titles, **fields})).json()
    return body


async def click(
    client: httpx.AsyncClient, answer_id: str, index: int = 0, clicked: bool = True
) -> httpx.Response:
    body = {"id": answer_id, "index": index, "clicked": clicked}
    return await client.post("/feedback", json=body)


async def figures(client: httpx.AsyncClient) -> Json:
    """Those of the only model."""
    (found,) = (await client.get("/experiments")).json()["models"]
    assert isinstance(found, dict)
    return found


@contextmanager
def signalled(owner: object, method: str) -> Iterator[threading.Event]:
    """An event that is set when `owner`'s method is called."""
    called, real = threading.Event(), getattr(owner, method)

    def signal_and_call(*arguments: Any) -> Any:
        called.set()
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, signal_and_call)
        yield called


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
