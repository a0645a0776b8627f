"""POST /rank: which of these stories will the reader click?"""

from fastapi import APIRouter, Request

from app import metrics
from app.errors import Unprocessable
from app.routes.dependencies import (
    ERRORS,
    RecommenderDep,
    choose,
    latency_ms,
    reader,
    story,
    usage,
)
from app.routes.predict import judgement
from app.schemas import RankedStory, RankRequest, RankResponse
from app.scoring.ranking import order

router = APIRouter(tags=["predictions"], responses=ERRORS)


@router.post("/rank")
async def rank(body: RankRequest, request: Request, recommender: RecommenderDep) -> RankResponse:
    """One reader's candidates, the most probable click first; equal ones keep their order."""
    limit = request.app.state.settings.limits.max_candidates
    if len(body.candidates) > limit:
        raise Unprocessable(f"candidates: at most {limit} here", "candidates")
    targets = [story(candidate) for candidate in body.candidates]
    judged = await recommender.judge(
        choose(request, body.model, body.reader_id),
        [(reader(body), targets)],
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
