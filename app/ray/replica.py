"""Frontpage on Ray Serve: each replica of a deployment runs the same application and engine.

`serve deploy deploy/ray/frontpage.yaml` starts it; docs/operations/ray-serve.md says how. Settings
come from the environment, as for `python -m app`. The deployment's `user_config` can declare
adapters and aliases; they can also be changed over HTTP, at any replica.
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI
from prometheus_client import start_http_server
from ray import serve

from app.engine.base import Engine
from app.engine.environment import be_quiet
from app.errors import EngineUnavailable, StartupError, StoreUnavailable
from app.observability import logs
from app.service import Service
from app.settings import Settings, read_settings

logger = logging.getLogger("frontpage")
METRICS_PORT = 9400
"""The port of a machine's first replica; the others take the next free ones."""
MAX_METRICS_PORTS = 100


class Replica:
    """One replica of the service. Ray calls all its methods on one event loop."""

    def __init__(self, engine: Engine | None = None) -> None:
        """engine: see create_app. Raises StartupError, which `serve status` shows."""
        # Replicas of one machine share the state folder, so each keeps its own files elsewhere.
        self.own = TemporaryDirectory(prefix="frontpage-")
        be_quiet()
        self.settings = read_settings()
        if not self.settings.api_keys:
            raise StartupError("API keys are needed: Ray's proxies decide who can connect")
        logs.configure(self.settings)
        self.engine = engine
        self.configured = False

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Create the application, whose lifespan, and with it the engine, Ray runs."""
        from app.main import create_app  # the lines above set what vLLM reads when imported
        from app.models.merged import merge_if_asked
        from app.server import measure_lag
        from app.store.opening import make_store

        store = make_store(self.settings)
        name = serve.get_replica_context().replica_id.unique_id
        own = {"state": Path(self.own.name), "instance_name": name}
        settings = merge_if_asked(self.settings.model_copy(update=own))
        app = create_app(settings, self.engine, store)
        self.service: Service = app.state.service
        self.lag = asyncio.create_task(measure_lag())
        serve_metrics(settings)
        return app

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Write `user_config` into the store. Ray calls this before the first request and after
        each change.

        A new replica that can't serve what is declared raises StartupError and does not start. A
        running one keeps what it has and logs the problems.
        """
        from app.models.declared import Declaration, declare
        from app.observability import metrics

        try:
            declaration = Declaration.read(user_config)
            problems = await declare(declaration, self.service.desired, self.service.local)
        except (StartupError, StoreUnavailable) as error:
            metrics.ADAPTER_LOADS.labels("rejected").inc()
            problems = [str(error)]
        if problems and not self.configured:
            raise StartupError("; ".join(problems))
        self.configured = True
        for problem in problems:
            logger.error("user_config is not fully applied: %s", problem)

    def check_health(self) -> None:
        """Raises EngineUnavailable if the engine is dead; Ray then replaces the replica."""
        from app.observability import metrics

        try:
            self.service.engine.check_health()
            metrics.ENGINE_UP.set(1)
        except EngineUnavailable:
            metrics.ENGINE_UP.set(0)
            raise

    def __del__(self) -> None:
        self.own.cleanup()


def serve_metrics(settings: Settings) -> None:
    """Serve this process's metrics on a port of their own, since Ray's proxy would forward /metrics
    to any replica."""
    for port in range(METRICS_PORT, METRICS_PORT + MAX_METRICS_PORTS):
        with suppress(OSError):
            start_http_server(port, settings.host)
            logger.info("this replica's metrics are on port %d", port)
            return
    logger.error("no metrics: no port from %d on is free", METRICS_PORT)


deployment = serve.deployment(serve.ingress()(Replica), name="Frontpage")
service = deployment.bind()
