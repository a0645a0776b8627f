"""GET /experiments: what does feedback say about the models?"""

from typing import Annotated

from fastapi import APIRouter, Query

from app.feedback.experiments import ExperimentsResponse
from app.http.dependencies import FEEDBACK_ERRORS, ServiceDep

router = APIRouter(tags=["feedback"], responses=FEEDBACK_ERRORS)


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
    return ExperimentsResponse(models=await service.reports.report(days))
