"""POST /rank: which of these stories will the reader click?"""

from fastapi import APIRouter, Request

from app.errors import InvalidValue
from app.http.conversion import (
    Conversion,
    explained,
    judged,
    remembered,
    sent_history,
    usage,
)
from app.http.dependencies import ERRORS, ServiceDep, choose, latency_ms, terms_of
from app.http.schemas.predictions import RankedStory, RankRequest, RankResponse
from app.models.language_model import StoryTooLong
from app.observability import metrics

router = APIRouter(tags=["predictions"], responses=ERRORS)


@router.post("/rank")
async def rank(body: RankRequest, request: Request, service: ServiceDep) -> RankResponse:
    """Rank candidates for one reader, the most probable click first. Ties keep their order.

    If the model has a ranker, the order and `probability` come from all that is known: live
    figures, likeness to what the reader clicked, and the language model's `text_probability`. Of
    many candidates the language model judges a `shortlist`; the others follow them, and their
    `stage` is `signals`.
    """
    limits, request_id = service.settings.limits, request.state.request_id
    if len(body.candidates) > limits.max_candidates:
        raise InvalidValue(f"candidates: at most {limits.max_candidates} here", "candidates")
    conversion = await Conversion.prepare(service, body.reader_id, [body], body.candidates)
    targets = [conversion.story(one, f"candidates.{n}") for n, one in enumerate(body.candidates)]
    reader = conversion.reader(body)
    choice = choose(request, service, body.model, body.reader_id, ranker=body.ranker)
    try:
        predictions = await service.recommender.predict(
            choice,
            [(reader, targets)],
            request_id,
            terms_of(request, service, body, body.shortlist),
        )
    except StoryTooLong as error:
        raise InvalidValue(str(error), f"candidates.{error.target}") from None
    metrics.CANDIDATES.labels(predictions.model).observe(len(targets))
    probabilities = [prediction.probability for prediction in predictions.items]
    ranked = predictions.order[: body.top_k]
    reasons = explained(service, predictions, targets, ranked if body.explain else ())
    shown = [(body.candidates[index], targets[index]) for index in ranked]
    carried = remembered(body.reader_id, shown, sent_history(body, reader))
    service.store.keep(
        request_id, predictions.model, predictions.alias, probabilities, ranked, carried
    )
    return RankResponse(
        id=request_id,
        model=predictions.model,
        results=[
            RankedStory(
                id=targets[index].id,
                index=index,
                rank=place,
                **judged(predictions.items[index]),
                **reasons.get(index, {}),
            )
            for place, index in enumerate(ranked, start=1)
        ],
        ranker=predictions.judged is not None,
        degraded=predictions.degraded is not None,
        explored=predictions.explored,
        usage=usage(predictions),
        latency_ms=latency_ms(request),
    )
