"""POST /feedback: was a story clicked? GET /experiments: what that says of the models."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.feedback.experiments import ExperimentsResponse
from app.http.dependencies import ERRORS, ServiceDep
from app.http.schemas import (
    ErrorResponse,
    FeedbackRequest,
    FeedbackResponse,
)

router = APIRouter(
    tags=["feedback"],
    responses={
        **ERRORS,
        404: {"model": ErrorResponse, "description": "No such answer is kept, or feedback is off"},
        503: {"model": ErrorResponse, "description": "The disk is full, slow or gone"},
    },
)


@router.post("/feedback")
async def give_feedback(body: FeedbackRequest, service: ServiceDep) -> FeedbackResponse:
    """Whether a story of an answer was clicked; the last feedback for a story counts.

    Of an answer of /rank with any feedback, the stories without count as not clicked. So send one
    `"clicked": false` for an answer that was shown and ignored, and ask with `top_k` for what is
    shown.
    """
    model = await service.feedback.record(body.id, body.index, body.clicked)
    return FeedbackResponse(id=body.id, index=body.index, model=model, clicked=body.clicked)


@router.get("/experiments")
async def experiments(
    service: ServiceDep,
    days: Annotated[
        float | None,
        Query(gt=0, le=36500, description="only answers of the last days; default: all kept"),
    ] = None,
) -> ExperimentsResponse:
    """Click-through by position, online AUC and calibration of each model, with 95 % intervals.

    Models differ if their intervals do not overlap. A model asked for through an alias has figures
    of its own for it: compare those of one alias, whose readers were split by chance.
    """
    return ExperimentsResponse(models=await service.feedback.report(days))
