"""POST /predict and /predict/batch: will this reader click this story?"""

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
from app.http.schemas import BatchRequest, BatchResponse, PredictRequest, PredictResponse
from app.recommender import Judged

router = APIRouter(tags=["predictions"], responses=ERRORS)


def keep(request: Request, judged: Judged) -> None:
    """For feedback: each story stands alone."""
    probabilities = [answer.probability for answer in judged.answers]
    request.app.state.feedback.keep(
        request.state.request_id, judged.model, judged.alias, probabilities
    )


@router.post("/predict")
async def predict(
    body: PredictRequest, request: Request, recommender: RecommenderDep, limits: LimitsDep
) -> PredictResponse:
    """The probability that a reader clicks one story."""
    request_id = request.state.request_id
    pairs = [(reader(body, limits), [story(body.target, limits, "target")])]
    judged = await recommender.judge(
        choose(request, body.model, body.reader_id), pairs, request_id, lambda _pair, _: "target"
    )
    keep(request, judged)
    return PredictResponse(
        id=request_id,
        model=judged.model,
        usage=usage(judged),
        latency_ms=latency_ms(request),
        **judgement(judged, 0).model_dump(),
    )


@router.post("/predict/batch")
async def predict_batch(
    body: BatchRequest, request: Request, recommender: RecommenderDep, limits: LimitsDep
) -> BatchResponse:
    """Many independent pairs of a reader and a story at once."""
    if len(body.pairs) > limits.max_pairs:
        raise Unprocessable(f"pairs: at most {limits.max_pairs} here", "pairs")
    pairs = [
        (
            reader(pair, limits, f"pairs.{number}."),
            [story(pair.target, limits, f"pairs.{number}.target")],
        )
        for number, pair in enumerate(body.pairs)
    ]
    judged = await recommender.judge(
        choose(request, body.model, body.reader_id),
        pairs,
        request.state.request_id,
        lambda pair, _: f"pairs.{pair}.target",
    )
    keep(request, judged)
    return BatchResponse(
        id=request.state.request_id,
        model=judged.model,
        results=[judgement(judged, index) for index in range(len(pairs))],
        usage=usage(judged),
        latency_ms=latency_ms(request),
    )
