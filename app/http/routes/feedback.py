"""POST /feedback: was a story clicked? GET /experiments: what does that say about the models?"""

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
        404: {
            "model": ErrorResponse,
            "description": "No such answer is kept, or feedback is turned off.",
        },
        503: {"model": ErrorResponse, "description": "The disk is full, slow or gone."},
    },
)


@router.post("/feedback")
async def give_feedback(body: FeedbackRequest, service: ServiceDep) -> FeedbackResponse:
    """Report whether a story of an answer was clicked. The last feedback for a story counts.

    Once an answer of /rank has any feedback, its stories without feedback count as not clicked. So
    send one `"clicked": false` for an answer that was shown and ignored, and set `top_k` to the
    number of stories shown.
    """
    model = await service.feedback.record(body.id, body.index, body.clicked)
    return FeedbackResponse(id=body.id, index=body.index, model=model, clicked=body.clicked)


@router.get("/experiments")
async def experiments(
    service: ServiceDep,
    days: Annotated[
        float | None,
        Query(
            gt=0,
            le=36500,
            description="Use only the answers of the last `days` days. Default: all answers kept.",
        ),
    ] = None,
) -> ExperimentsResponse:
    """Each model's click-through by position, online AUC and calibration, with 95 % intervals.

    Models differ if their intervals do not overlap. A model has separate figures for each alias by
    which it was requested. Compare models within one alias, whose readers are split at random.
    """
    return ExperimentsResponse(models=await service.feedback.report(days))
