"""Health, readiness and metrics."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.http.dependencies import ServiceDep
from app.http.schemas.base import ErrorResponse, Health, Readiness

router = APIRouter(
    tags=["operations"],
    responses={
        503: {"model": ErrorResponse, "description": "The service is not healthy or not ready."}
    },
)


@router.get("/health")
async def health(service: ServiceDep) -> Health:
    """Check that the process works. It fails once the engine is lost for good; while the engine is
    loaded or started again, it does not."""
    service.check_alive()
    return Health(status="ok", engine=service.supervision.state)


@router.get("/ready")
async def ready(
    service: ServiceDep,
    level: Annotated[
        Literal["full", "degraded"],
        Query(description="What must be ready: the language model, or any answer at all."),
    ] = "full",
) -> Readiness:
    """Check that the service answers: by the language model or, with `level=degraded`, at least
    without it."""
    service.check_ready(degraded=level == "degraded")
    state = service.supervision.state
    return Readiness(status="ok", engine=state, level="full" if state == "ready" else "degraded")


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_model=None)
async def metrics() -> Response:
    """Our metrics and vLLM's, in Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
