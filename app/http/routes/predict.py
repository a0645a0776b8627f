"""POST /predict and /predict/batch: will a reader click a story?"""

from fastapi import APIRouter, Request

from app.errors import InvalidValue
from app.http.conversion import judgement, reader, story, usage
from app.http.dependencies import ERRORS, ServiceDep, choose, latency_ms
from app.http.schemas import BatchRequest, BatchResponse, PredictRequest, PredictResponse
from app.recommender import Predictions, StoryTooLong
from app.service import Service

router = APIRouter(tags=["predictions"], responses=ERRORS)


def keep(service: Service, request_id: str, predictions: Predictions) -> None:
    """Keep the answer for feedback, with its stories unranked."""
    probabilities = [prediction.probability for prediction in predictions.items]
    service.store.keep(request_id, predictions.model, predictions.alias, probabilities)


@router.post("/predict")
async def predict(body: PredictRequest, request: Request, service: ServiceDep) -> PredictResponse:
    """Predict the probability that a reader clicks one story."""
    limits, request_id = service.settings.limits, request.state.request_id
    pairs = [(reader(body, limits), [story(body.target, limits, "target")])]
    choice = choose(request, service, body.model, body.reader_id)
    try:
        predictions = await service.recommender.predict(choice, pairs, request_id)
    except StoryTooLong as error:
        raise InvalidValue(str(error), "target") from None
    keep(service, request_id, predictions)
    [prediction] = predictions.items
    return PredictResponse(
        id=request_id,
        model=predictions.model,
        usage=usage(predictions),
        latency_ms=latency_ms(request),
        probability=prediction.probability,
        label=prediction.label,
        label_mass=prediction.label_mass,
        history_used=prediction.history_used,
    )


@router.post("/predict/batch")
async def predict_batch(body: BatchRequest, request: Request, service: ServiceDep) -> BatchResponse:
    """Predict clicks for many independent pairs of a reader and a story."""
    limits, request_id = service.settings.limits, request.state.request_id
    if len(body.pairs) > limits.max_pairs:
        raise InvalidValue(f"pairs: at most {limits.max_pairs} here", "pairs")
    pairs = [
        (
            reader(pair, limits, f"pairs.{number}."),
            [story(pair.target, limits, f"pairs.{number}.target")],
        )
        for number, pair in enumerate(body.pairs)
    ]
    choice = choose(request, service, body.model, body.reader_id)
    try:
        predictions = await service.recommender.predict(choice, pairs, request_id)
    except StoryTooLong as error:
        raise InvalidValue(str(error), f"pairs.{error.pair}.target") from None
    keep(service, request_id, predictions)
    return BatchResponse(
        id=request_id,
        model=predictions.model,
        results=[judgement(prediction) for prediction in predictions.items],
        usage=usage(predictions),
        latency_ms=latency_ms(request),
    )
