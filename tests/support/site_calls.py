"""Services on one store, and calls of the routes with which a site tells them what happens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Settings
from tests.support.models import SMOLLM2
from tests.support.servers import started

Json = dict[str, Any]


@asynccontextmanager
async def service(url: str, state: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A service on the store of this URL; several may run at once."""
    fields: dict[str, Any] = {
        "model": SMOLLM2,
        "state": state,
        "store": url,
        "reader_key": SecretStr("the same for all instances"),
    }
    async with started(create_app(Settings(**(fields | settings)), FakeEngine())) as client:
        yield client


async def put(client: httpx.AsyncClient, **titles: str) -> None:
    """Store stories, given as id=title."""
    stories = [{"id": name, "title": title} for name, title in titles.items()]
    answer = await client.put("/stories", json={"stories": stories})
    assert (answer.status_code, answer.json()) == (200, {"stored": len(titles)})


async def send(client: httpx.AsyncClient, *events: Json) -> tuple[int, int]:
    """Send events; returns how many were accepted, and how many were duplicates."""
    answer = await client.post("/events", json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["accepted"], body["duplicates"]


def impression(*stories: str, **fields: Any) -> Json:
    return {"type": "impression", "stories": list(stories), **fields}


def click(story: str, **fields: Any) -> Json:
    return {"type": "click", "story": story, **fields}


async def ask(client: httpx.AsyncClient, path: str, **body: Any) -> Json:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def refused(
    client: httpx.AsyncClient, method: str, path: str, body: object
) -> tuple[int, str | None]:
    """The status of an error, and the field that it names."""
    answer = await client.request(method, path, json=body)
    return answer.status_code, answer.json()["error"]["param"]


async def history_of(client: httpx.AsyncClient, reader_id: str) -> list[str]:
    """The ids of the stories that a reader clicked, as GET /readers has them."""
    answer = await client.get(f"/readers/{reader_id}")
    if answer.status_code == 404:
        return []
    assert answer.status_code == 200, answer.text
    return [story["id"] for story in answer.json()["history"]]
