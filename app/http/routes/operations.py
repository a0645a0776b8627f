"""Health, readiness, metrics."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.http.schemas import ErrorResponse, Health

router = APIRouter(
    tags=["operations"],
    responses={503: {"model": ErrorResponse, "description": "Not healthy, or not ready"}},
)


@router.get("/health")
async def health(request: Request) -> Health:
    """The process answers and its engine is alive."""
    request.app.state.engine.check_health()
    return Health(status="ok")


@router.get("/ready")
async def ready(request: Request) -> Health:
    """The model is loaded and has given a score, and the engine is alive."""
    request.app.state.check_ready()
    return Health(status="ok")


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_model=None)
async def metrics() -> Response:
    """Ours and vLLM's metrics in Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
