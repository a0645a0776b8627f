"""POST /rank: which of these stories will the reader click?"""

from fastapi import APIRouter, Request

from app.errors import Unprocessable
from app.http.dependencies import (
    ERRORS,
    LimitsDep,
    RecommenderDep,
    choose,
    judgement,
    latency_ms,
    reader,
    story,
    usage,
)
from app.http.schemas import RankedStory, RankRequest, RankResponse
from app.observability import metrics
from app.scoring.ranking import order

router = APIRouter(tags=["predictions"], responses=ERRORS)


@router.post("/rank")
async def rank(
    body: RankRequest, request: Request, recommender: RecommenderDep, limits: LimitsDep
) -> RankResponse:
    """One reader's candidates, the most probable click first; equal ones keep their order."""
    if len(body.candidates) > limits.max_candidates:
        raise Unprocessable(f"candidates: at most {limits.max_candidates} here", "candidates")
    targets = [
        story(candidate, limits, f"candidates.{number}")
        for number, candidate in enumerate(body.candidates)
    ]
    judged = await recommender.judge(
        choose(request, body.model, body.reader_id),
        [(reader(body, limits), targets)],
        request.state.request_id,
        lambda _, target: f"candidates.{target}",
    )
    metrics.CANDIDATES.labels(judged.model).observe(len(targets))
    probabilities = [answer.probability for answer in judged.answers]
    ranked = order(probabilities, body.top_k)
    request.app.state.feedback.keep(
        request.state.request_id, judged.model, judged.alias, probabilities, ranked
    )
    return RankResponse(
        id=request.state.request_id,
        model=judged.model,
        results=[
            RankedStory(
                id=body.candidates[index].id,
                index=index,
                rank=place,
                **judgement(judged, index).model_dump(),
            )
            for place, index in enumerate(ranked, start=1)
        ],
        usage=usage(judged),
        latency_ms=latency_ms(request),
    )
