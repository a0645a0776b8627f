"""Frontpage on Ray Serve: the same application and engine, once in each replica of a deployment.

`serve deploy deploy/ray/frontpage.yaml` starts it; docs/operations/ray-serve.md says how. Settings
come from the environment, as for `python -m app`; adapters and aliases from the deployment's
`user_config`, so that every replica has the same, also one that is started later.
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
"""Of a machine's first replica; the others take the next free ones."""
PORTS = 100


class Replica:
    """Ray calls all methods on one event loop."""

    def __init__(self, engine: Engine | None = None) -> None:
        """engine: see create_app. Raises StartupError, which `serve status` shows."""
        # Not in the state folder: there replicas of one machine would meet.
        self.own = TemporaryDirectory(prefix="frontpage-")
        be_quiet()
        self.settings = read_settings()
        if not self.settings.api_keys:
            raise StartupError("API keys are needed: Ray's proxies decide who can connect")
        logs.configure(self.settings)
        self.engine = engine
        self.configured = False

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Ray runs its lifespan, and with it the engine."""
        from app.feedback.store import (
            FeedbackStore,  # the lines above set what vLLM reads when imported
        )
        from app.main import create_app
        from app.models.merged import merge_if_asked
        from app.server import measure_lag

        shared = self.settings.state
        settings = merge_if_asked(self.settings.model_copy(update={"state": Path(self.own.name)}))
        feedback = FeedbackStore(
            shared / "feedback.sqlite", settings.feedback_days, settings.feedback_answers
        )
        app = create_app(settings, self.engine, feedback, changes_refused=CHANGES_REFUSED)
        self.service: Service = app.state.service
        self.lag = asyncio.create_task(measure_lag())
        serve_metrics(settings)
        return app

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Ray calls it before the first request and after each change of `user_config`.

        A new replica that can't have what is declared raises StartupError and does not start; one
        at work keeps what it has, and says so.
        """
        from app.models.desired import Desired, apply
        from app.observability import metrics

        try:
            problems = await apply(Desired.read(user_config), self.service.adapters)
        except StartupError as error:
            metrics.ADAPTER_LOADS.labels("rejected").inc()
            problems = [str(error)]
        if problems and not self.configured:
            raise StartupError("; ".join(problems))
        self.configured = True
        for problem in problems:
            logger.error("not as declared, the rest is as it was: %s", problem)

    def check_health(self) -> None:
        """Ray replaces a replica for which this raises again and again."""
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
    """This process's own /metrics: behind Ray's proxy some replica would answer."""
    for port in range(METRICS_PORT, METRICS_PORT + PORTS):
        with suppress(OSError):
            start_http_server(port, settings.host)
            logger.info("metrics of this replica: port %d", port)
            return
    logger.error("no metrics: no port from %d on is free", METRICS_PORT)


deployment = serve.deployment(serve.ingress()(Replica), name="Frontpage")
service = deployment.bind()
