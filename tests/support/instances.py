"""Several services in this process that share a store, each as its own instance."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from app.engine.fake import FakeEngine
from app.main import create_app
from app.models.desired import parse
from app.models.kept import KeptModels
from app.service import Service
from app.settings import Settings
from tests.support.adapter_folders import write_adapter
from tests.support.models import SMOLLM2
from tests.support.servers import client_of
from tests.support.stores import rows

SECRET = "a key for all instances"


@dataclass(frozen=True)
class Instance:
    client: httpx.AsyncClient
    service: Service
    engine: FakeEngine

    @property
    def versions(self) -> dict[str, int]:
        """The versions served, by the adapters' names."""
        return {model.name: model.version for model in self.service.models if model.version}

    @property
    def aliases(self) -> dict[str, dict[str, float]]:
        return self.service.models.aliases

    async def listed(self, name: str) -> dict[str, Any]:
        """What GET /adapters says of one adapter."""
        found = (await self.client.get("/adapters")).json()["adapters"]
        [adapter] = [one for one in found if one["name"] == name]
        return dict(adapter)

    async def listed_at(self, name: str, instance: str) -> dict[str, Any] | None:
        """What GET /adapters says here of an adapter at an instance."""
        found = (await self.listed(name))["instances"]
        return next((one for one in found if one["instance"] == instance), None)


class Instances:
    """Their settings differ in names and state folders alone. Adapters `v1` to `v3` can be loaded.

    folder: for the states and the adapters.
    """

    def __init__(self, folder: Path, store_url: str, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.store_url = store_url
        self._stack = stack
        for number in range(1, 4):
            write_adapter(self.root / f"v{number}", alpha=number)

    def settings(self, name: str, **changes: Any) -> Settings:
        fields: dict[str, Any] = {
            "model": SMOLLM2,
            "state": self.folder / name,
            "instance_name": name,
            "store": self.store_url,
            "reader_key": SECRET,
            "adapter_root": self.root,
            "max_adapters": 2,
        }
        return Settings(**(fields | changes))

    async def start(self, name: str, **changes: Any) -> Instance:
        """An instance that runs until the end of the test."""
        return await self._stack.enter_async_context(self.running(name, **changes))

    @asynccontextmanager
    async def running(self, name: str, **changes: Any) -> AsyncIterator[Instance]:
        engine = changes.pop("engine", None) or FakeEngine()
        app: FastAPI = create_app(self.settings(name, **changes), engine)
        async with app.router.lifespan_context(app), client_of(app) as client:
            yield Instance(client, app.state.service, engine)


def desired_in(store_url: str) -> KeptModels:
    """The desired state that a store holds."""
    found = rows(store_url, "SELECT content FROM desired")
    return parse(found[0][0]) if found else KeptModels()
