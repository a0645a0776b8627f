"""POST /rank: which of these stories will the reader click?"""

from fastapi import APIRouter, Request

from app.errors import InvalidValue
from app.http.conversion import Conversion, ranked_story, remembered, sent_history, usage
from app.http.dependencies import ERRORS, ServiceDep, choose, latency_ms
from app.http.schemas.predictions import RankRequest, RankResponse
from app.observability import metrics
from app.recommender import StoryTooLong
from app.scoring.ranking import order

router = APIRouter(tags=["predictions"], responses=ERRORS)


@router.post("/rank")
async def rank(body: RankRequest, request: Request, service: ServiceDep) -> RankResponse:
    """Rank candidates for one reader, the most probable click first. Ties keep their order."""
    limits, request_id = service.settings.limits, request.state.request_id
    if len(body.candidates) > limits.max_candidates:
        raise InvalidValue(f"candidates: at most {limits.max_candidates} here", "candidates")
    conversion = await Conversion.prepare(service, body.reader_id, [body], body.candidates)
    targets = [conversion.story(one, f"candidates.{n}") for n, one in enumerate(body.candidates)]
    reader = conversion.reader(body)
    choice = choose(request, service, body.model, body.reader_id)
    try:
        predictions = await service.recommender.predict(choice, [(reader, targets)], request_id)
    except StoryTooLong as error:
        raise InvalidValue(str(error), f"candidates.{error.target}") from None
    metrics.CANDIDATES.labels(predictions.model).observe(len(targets))
    probabilities = [prediction.probability for prediction in predictions.items]
    ranked = order(probabilities, body.top_k)
    shown = [(body.candidates[index], targets[index]) for index in ranked]
    carried = remembered(body.reader_id, shown, sent_history(body, reader))
    service.store.keep(
        request_id, predictions.model, predictions.alias, probabilities, ranked, carried
    )
    return RankResponse(
        id=request_id,
        model=predictions.model,
        results=[
            ranked_story(predictions.items[index], body.candidates[index], index, place)
            for place, index in enumerate(ranked, start=1)
        ],
        usage=usage(predictions),
        latency_ms=latency_ms(request),
    )
