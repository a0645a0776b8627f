"""POST /feedback: was a story clicked?"""

from fastapi import APIRouter

from app.http.dependencies import FEEDBACK_ERRORS, SenderDep, ServiceDep
from app.http.schemas.feedback import (
    FeedbackRequest,
    FeedbackResponse,
)

router = APIRouter(tags=["feedback"], responses=FEEDBACK_ERRORS)


@router.post("/feedback")
async def give_feedback(
    body: FeedbackRequest, service: ServiceDep, sender: SenderDep
) -> FeedbackResponse:
    """Report whether a story of an answer was clicked. The last feedback for a story counts.

    Once an answer of /rank has any feedback, its stories without feedback count as not clicked. So
    send one `"clicked": false` for an answer that was shown and ignored, and set `top_k` to the
    number of stories shown.
    """
    model = await service.store.record(body.id, body.index, body.clicked, sender)
    return FeedbackResponse(id=body.id, index=body.index, model=model, clicked=body.clicked)
