"""GET /experiments: what does feedback say about the models?"""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from app.feedback.figures import ExperimentsResponse
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
    since: Annotated[
        AwareDatetime | None,
        Query(
            description="Use only the answers from this time on, such as `2026-03-01T00:00:00Z`:"
            " when the experiment began. Not together with `days`."
        ),
    ] = None,
) -> ExperimentsResponse:
    """Each model's click-through by position, online AUC and calibration, with 95 % intervals, and
    how the models of an alias differ.

    A model has separate figures for each alias by which it was requested. Compare models within one
    alias, whose readers are split at random.

    Which figure may be looked at when: `anytime` in `differences` at any time and as often as you
    like, as long as `since` stays when the experiment began. All other intervals, `fixed` among
    them, hold for one look at a time that was set before the experiment began.
    """
    return await service.reports.report(days, None if since is None else since.timestamp())
