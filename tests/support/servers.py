"""Servers for tests: an application in this process, or `python -m app` in one of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from loadtests.services import READY_SECONDS, free_port
from tests.support.models import ROOT

ENVIRONMENT = {
    # On a GPU several services run side by side; on a CPU the cache has a size of its own.
    "FRONTPAGE_ENGINE__GPU_MEMORY_UTILIZATION": "0.2",
    # vLLM's worker waits for this long at its end, five seconds if it is not told.
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "1",
}


def client_of(app: ASGIApp, root_path: str = "") -> httpx.AsyncClient:
    """Asks an application of this process, which nobody starts. root_path: a proxy's prefix."""
    transport = httpx.ASGITransport(app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application between its start and its end."""
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The application behind a real uvicorn; gives its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, log_level="warning"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


@dataclass
class Service:
    """A running `python -m app`. headers: with which a client may do anything."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def wait_until_ready(self) -> None:
        """Raises RuntimeError if the service ends or hangs before it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise RuntimeError(f"the service did not become ready:\n{self.log.read_text()}")


def start_service(log: Path, **settings: str) -> Service:
    port = free_port()
    settings.setdefault("state", str(log.parent / "state"))
    names = {f"FRONTPAGE_{name.upper()}": value for name, value in settings.items()}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, "FRONTPAGE_PORT": str(port), **names},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    return Service(f"http://127.0.0.1:{port}", process, log)


@contextmanager
def stopped_at_end(service: Service) -> Iterator[Service]:
    try:
        yield service
    finally:
        service.process.send_signal(signal.SIGTERM)
        try:
            service.process.wait(30)
        except subprocess.TimeoutExpired:
            service.process.kill()
            service.process.wait()
