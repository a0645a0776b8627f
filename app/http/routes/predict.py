"""POST /predict and /predict/batch: will a reader click a story?"""

from collections.abc import Sequence

from fastapi import APIRouter, Request

from app.errors import InvalidValue
from app.http.conversion import (
    Conversion,
    Sent,
    explained,
    judged,
    remembered,
    sent_history,
    usage,
)
from app.http.dependencies import ERRORS, ServiceDep, choose, latency_ms, terms_of
from app.http.schemas.predictions import (
    BatchRequest,
    BatchResponse,
    Judgement,
    PredictRequest,
    PredictResponse,
)
from app.models.language_model import Predictions, StoryTooLong
from app.service import Service

router = APIRouter(tags=["predictions"], responses=ERRORS)


def keep(
    service: Service,
    request_id: str,
    predictions: Predictions,
    reader_id: str | None,
    targets: Sequence[Sent],
    history: Sequence[Sent] | None,
) -> None:
    """Keep the answer for feedback, with its stories unranked."""
    carried = remembered(reader_id, targets, history)
    probabilities = [prediction.probability for prediction in predictions.items]
    service.store.keep(
        request_id, predictions.model, predictions.alias, probabilities, remembered=carried
    )


@router.post("/predict")
async def predict(body: PredictRequest, request: Request, service: ServiceDep) -> PredictResponse:
    """Predict the probability that a reader clicks one story."""
    request_id = request.state.request_id
    conversion = await Conversion.prepare(service, body.reader_id, [body], [body.target])
    reader, target = conversion.reader(body), conversion.story(body.target, "target")
    choice = choose(request, service, body.model, body.reader_id, ranker=body.ranker)
    terms = terms_of(request, service, body)
    try:
        predictions = await service.recommender.predict(
            choice, [(reader, [target])], request_id, terms
        )
    except StoryTooLong as error:
        raise InvalidValue(str(error), "target") from None
    history = sent_history(body, reader)
    keep(service, request_id, predictions, body.reader_id, [(body.target, target)], history)
    [prediction] = predictions.items
    reasons = explained(service, predictions, [target], [0] if body.explain else ())
    return PredictResponse(
        id=request_id,
        model=predictions.model,
        usage=usage(predictions),
        latency_ms=latency_ms(request),
        ranker=predictions.judged is not None,
        degraded=predictions.degraded is not None,
        **judged(prediction),
        **reasons.get(0, {}),
    )


@router.post("/predict/batch")
async def predict_batch(body: BatchRequest, request: Request, service: ServiceDep) -> BatchResponse:
    """Predict clicks for many independent pairs of a reader and a story.

    A `reader_id` is that of all pairs: those without a `history` get what this reader clicked. To
    predict for several readers, send each pair's `history`.
    """
    limits, request_id = service.settings.limits, request.state.request_id
    if len(body.pairs) > limits.max_pairs:
        raise InvalidValue(f"pairs: at most {limits.max_pairs} here", "pairs")
    sent = [pair.target for pair in body.pairs]
    conversion = await Conversion.prepare(service, body.reader_id, body.pairs, sent)
    readers = [conversion.reader(pair, f"pairs.{n}.") for n, pair in enumerate(body.pairs)]
    targets = [conversion.story(one, f"pairs.{n}.target") for n, one in enumerate(sent)]
    pairs = [(reader, [target]) for reader, target in zip(readers, targets, strict=True)]
    choice = choose(request, service, body.model, body.reader_id, ranker=body.ranker)
    terms = terms_of(request, service, body)
    try:
        predictions = await service.recommender.predict(choice, pairs, request_id, terms)
    except StoryTooLong as error:
        raise InvalidValue(str(error), f"pairs.{error.pair}.target") from None
    shown = list(zip(sent, targets, strict=True))
    keep(service, request_id, predictions, body.reader_id, shown, history=None)
    asked = range(len(pairs)) if body.explain else ()
    reasons = explained(service, predictions, targets, asked)
    return BatchResponse(
        id=request_id,
        model=predictions.model,
        results=[
            Judgement(**judged(prediction), **reasons.get(index, {}))
            for index, prediction in enumerate(predictions.items)
        ],
        ranker=predictions.judged is not None,
        degraded=predictions.degraded is not None,
        usage=usage(predictions),
        latency_ms=latency_ms(request),
    )
