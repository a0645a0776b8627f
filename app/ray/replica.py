"""Frontpage on Ray Serve: each replica of a deployment runs the same application and engine.

`serve deploy deploy/ray/frontpage.yaml` starts it; docs/operations/ray-serve.md says how. Settings
come from the environment, as for `python -m app`. Adapters and aliases come from the deployment's
`user_config`, so that all replicas have the same ones, including those started later.
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
from app.errors import EngineUnavailable, StartupError
from app.observability import logs
from app.service import Service
from app.settings import Settings, read_settings

logger = logging.getLogger("frontpage")
CHANGES_REFUSED = (
    "adapters and aliases are declared for all replicas: change user_config in the deployment's"
    " file and run `serve deploy`"
)
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
        settings = merge_if_asked(self.settings.model_copy(update={"state": Path(self.own.name)}))
        app = create_app(settings, self.engine, store, changes_refused=CHANGES_REFUSED)
        self.service: Service = app.state.service
        self.lag = asyncio.create_task(measure_lag())
        serve_metrics(settings)
        return app

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply `user_config`. Ray calls this before the first request and after each change.

        A new replica that can't serve what is declared raises StartupError and does not start. A
        running one keeps what it has and logs the problems.
        """
        from app.models.desired import Desired, apply
        from app.observability import metrics

        try:
            problems = await apply(
                Desired.read(user_config), self.service.adapters, self.service.aliases
            )
        except StartupError as error:
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
