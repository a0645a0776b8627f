"""create_app, the only place where the parts of the service are wired together."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import __doc__ as description
from app import __version__
from app.admission import Admission
from app.engine.base import Engine
from app.engine.replaceable import ReplaceableEngine
from app.engine.turns import Turns
from app.feedback.reports import Reports
from app.http import errors
from app.http.middleware.admission import Admit
from app.http.middleware.body_limit import BodyLimit
from app.http.middleware.context import RequestContext
from app.http.middleware.deadline import Deadline
from app.http.middleware.disconnect import CancelOnDisconnect
from app.http.middleware.head import HeadAsGet
from app.http.middleware.tracing import Tracing
from app.http.routes import (
    adapters,
    aliases,
    events,
    experiments,
    feedback,
    openai,
    operations,
    page,
    predict,
    rank,
    readers,
    recommend,
    stories,
)
from app.knowledge.encoders import Encoders
from app.knowledge.gathering import Knowledge
from app.knowledge.ranking import load_ranking
from app.knowledge.shortlists import Shortlists
from app.live.live import Live
from app.models.adapters import Adapters
from app.models.aliases import Aliases
from app.models.desired import Desired
from app.models.folders import read_models
from app.models.following import Following
from app.models.local import LocalAdapters
from app.observability.progress import step
from app.recommender import Recommender
from app.retrieval.retrieval import make_retrieval
from app.security.hosts import allow_origins
from app.security.middleware import Security
from app.service import Service
from app.settings import Settings
from app.store.opening import make_store
from app.store.store import Store

ROUTES = (
    *(predict, rank, recommend, stories, events, readers, feedback, experiments),
    *(openai, adapters, aliases, operations, page),
)
"""In the order in which the API reference lists them."""


def create_app(
    settings: Settings, engine: Engine | None = None, store: Store | None = None
) -> FastAPI:
    """Create the application and its Service, which starts and stops with it.

    engine: by default, vLLM's. store: by default, that of the settings. Raises StartupError for
    settings and folders that can't be served.
    """
    service = make_service(settings, engine, store)
    app = FastAPIOffline(
        title="Frontpage", version=__version__, description=description, lifespan=lifespan
    )
    app.state.service = service
    errors.install(app)
    for routes in ROUTES:  # include_router would make each of them anew, which takes 0.1 s
        app.router.routes += routes.router.routes
    # The middleware added last is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(Deadline, default_ms=settings.limits.timeout_ms)
    app.add_middleware(Admit, admission=service.admission, degrades=settings.degraded)
    limits = settings.limits
    app.add_middleware(BodyLimit, usual=limits.max_body_bytes, bulk=limits.max_bulk_bytes)
    app.add_middleware(Security, keys=settings.api_keys)
    if settings.trace_endpoint is not None:
        app.add_middleware(Tracing)
    app.add_middleware(RequestContext)
    allow_origins(app, settings.cors_origins)
    return app


def make_service(settings: Settings, engine: Engine | None, store: Store | None) -> Service:
    store = store or make_store(settings)
    live = make_live(settings, store)
    encoders = Encoders(settings.encoder, store)
    load = partial(load_ranking, encoders=encoders, half_life_s=live.half_life_s)
    models = read_models(settings, load)
    engine = engine or ReplaceableEngine(partial(make_vllm, settings))
    admission = Admission(settings.limits.max_pending_requests)
    desired = Desired(store.desired, settings)
    aliases = Aliases(settings, models, desired)
    local = LocalAdapters(settings, models, engine, desired, aliases, load)
    knowledge = Knowledge(live, store.database.now)
    chance = np.random.default_rng() if settings.explore else None
    shortlists, turns = Shortlists(settings, admission), Turns(engine, admission)
    return Service(
        settings=settings,
        models=models,
        engine=engine,
        admission=admission,
        desired=desired,
        local=local,
        adapters=Adapters(settings, models, desired, local),
        aliases=aliases,
        following=Following(settings.instance, desired, local),
        store=store,
        live=live,
        encoders=encoders,
        retrieval=make_retrieval(settings, store.database, live, encoders),
        reports=Reports(store),
        recommender=Recommender(engine, models, turns, knowledge, shortlists, chance),
    )


def make_live(settings: Settings, store: Store) -> Live:
    hours = settings.live_half_life_hours
    half_life_s = None if hours is None or math.isinf(hours) else hours * 3600
    key_limit = settings.live_key_limit if settings.api_keys else None
    return Live(store.database, half_life_s, settings.live_stories, key_limit)


def make_vllm(settings: Settings) -> Engine:
    """Called by a thread."""
    with step("vLLM"):
        from app.engine.vllm import VllmEngine  # takes seconds
    return VllmEngine(settings)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    async with service.running():
        yield
