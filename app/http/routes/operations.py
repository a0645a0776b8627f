"""Health, readiness and metrics."""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.http.dependencies import ServiceDep
from app.http.schemas.base import ErrorResponse, Health

router = APIRouter(
    tags=["operations"],
    responses={
        503: {"model": ErrorResponse, "description": "The service is not healthy or not ready."}
    },
)


@router.get("/health")
async def health(service: ServiceDep) -> Health:
    """Check that the process answers and its engine is alive."""
    service.engine.check_health()
    return Health(status="ok")


@router.get("/ready")
async def ready(service: ServiceDep) -> Health:
    """Check that each model has given a score and the engine is alive."""
    service.check_ready()
    return Health(status="ok")


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_model=None)
async def metrics() -> Response:
    """Our metrics and vLLM's, in Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
