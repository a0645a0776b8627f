"""Adapters for tests of a service that loads them, and calls of its routes."""

from pathlib import Path
from typing import Any

import httpx

from app.settings import Settings
from tests.support.adapter_folders import write_adapter
from tests.support.models import SMOLLM2

BASE = SMOLLM2.name


def three_versions(tmp_path: Path) -> Path:
    """A fixture, `root`: adapters to load."""
    for number in range(1, 4):
        write_adapter(tmp_path / "root" / f"v{number}")
    return tmp_path / "root"


def room_for_two(tmp_path: Path, root: Path) -> Settings:
    """A fixture, `settings`."""
    return Settings(model=SMOLLM2, state=tmp_path / "state", adapter_root=root, max_adapters=2)


async def load(client: httpx.AsyncClient, name: str, path: str) -> httpx.Response:
    return await client.post("/adapters", json={"name": name, "path": path})


async def predict(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/predict", json={"target": "Tesla", **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    problem = response.json()["error"]
    return response.status_code, problem["code"], problem["param"]


async def names(client: httpx.AsyncClient) -> list[str]:
    return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
