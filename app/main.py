"""create_app: the only place where the parts are wired together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import __doc__ as description
from app import errors
from app.admission import Admission
from app.engine.base import Engine
from app.errors import EngineUnavailable
from app.feedback.store import FeedbackStore
from app.http import middleware
from app.http.routes import adapters, feedback, openai, operations, page, predict, rank
from app.models.adapters import PROBE, PROBE_TARGET, Adapters
from app.models.folders import read_models
from app.models.registry import Choice
from app.observability.progress import step
from app.observability.tracing import Tracing, exporting
from app.recommender import Recommender
from app.security.hosts import allow_origins
from app.security.middleware import Security
from app.settings import Settings

VERSION = "0.1.0"


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """The service; `engine` defaults to vLLM's, started and stopped with the application."""
    models = read_models(settings)
    app = FastAPIOffline(
        title="Frontpage", version=VERSION, description=description, lifespan=lifespan
    )
    app.state.settings = settings
    app.state.models = models
    app.state.engine = engine or vllm_engine(settings)
    app.state.admission = Admission(settings.limits.max_pending_requests)
    app.state.adapters = Adapters(settings, models, app.state.engine)
    app.state.feedback = FeedbackStore(
        settings.state / "feedback.sqlite", settings.feedback_days, settings.feedback_answers
    )
    app.state.recommender = None
    app.state.check_ready = lambda: check_ready(app)
    errors.install(app)
    for routes in (predict, rank, feedback, openai, adapters, operations, page):
        app.include_router(routes.router)
    # The last added is the outermost.
    app.add_middleware(middleware.CancelOnDisconnect)
    app.add_middleware(middleware.Deadline, default_ms=settings.limits.timeout_ms)
    app.add_middleware(middleware.Admit, admission=app.state.admission)
    app.add_middleware(middleware.BodyLimit, max_bytes=settings.limits.max_body_bytes)
    app.add_middleware(Security, keys=settings.api_keys)
    if settings.trace_endpoint is not None:
        app.add_middleware(Tracing)
    app.add_middleware(middleware.RequestContext)
    allow_origins(app, settings.cors_origins)
    return app


def vllm_engine(settings: Settings) -> Engine:
    with step("vLLM"):
        from app.engine.vllm import VllmEngine  # takes seconds; tests on the fake engine go without
    return VllmEngine(settings)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the engine, load the adapters, give one score with each model, then serve."""
    settings, models, engine = app.state.settings, app.state.models, app.state.engine
    admission = app.state.admission
    app.state.feedback.start()  # before the engine: a file that can't be opened costs no waiting
    with step(f"model {settings.base_name} from {settings.model}"):
        await engine.start()
    try:
        admission.allow_tokens(settings.limits.max_pending_tokens or 2 * engine.step_tokens)
        await app.state.adapters.start()
        recommender = Recommender(engine, models, admission)
        for model in models:
            with step(f"first score of {model.name}"):
                pairs = [(PROBE, [PROBE_TARGET])]
                await recommender.judge(Choice(model, None), pairs, "start", lambda *_: "target")
        app.state.recommender = recommender
        with exporting(settings.trace_endpoint):
            yield
    finally:
        await engine.stop()
        app.state.feedback.stop()


def check_ready(app: FastAPI) -> None:
    """Raises EngineUnavailable before the first score, while stopping, and once the engine is
    dead."""
    if app.state.admission.draining.is_set():
        raise EngineUnavailable("the service is stopping")
    if app.state.recommender is None:
        raise EngineUnavailable("the model is still loading")
    app.state.engine.check_health()
