"""POST /recommend: which of the stories that the service knows should a reader see?"""

from collections.abc import Sequence

from fastapi import APIRouter, Request

from app.http.conversion import Conversion, explained, judged, remembered, sent_history, usage
from app.http.dependencies import ERRORS, ServiceDep, choose, latency_ms, terms_of
from app.http.records import kept_story
from app.http.schemas.recommendations import RecommendedStory, RecommendRequest, RecommendResponse
from app.http.schemas.stories import Story as SentStory
from app.knowledge.terms import Terms
from app.models.language_model import Predictions, StoryTooLong
from app.models.registry import Choice
from app.observability import metrics
from app.retrieval.catalogue import Filters
from app.retrieval.retrieval import Candidate
from app.scoring.wording import Reader, Story, one_line
from app.service import Service

router = APIRouter(tags=["predictions"], responses=ERRORS)
HOUR_S = 3600.0


@router.post("/recommend")
async def recommend(
    body: RecommendRequest, request: Request, service: ServiceDep
) -> RecommendResponse:
    """Recommend stored stories to a reader, the most probable click first.

    Candidates are a few hundred of the stories that were stored by `PUT /stories`: those most like
    the reader's latest clicks, those most popular right now, and a few that nobody has been shown.
    They are ranked as by `/rank`. Without a reader and a history they are popular and new ones.
    What the reader has clicked is never recommended, nor what is not published yet.
    """
    request_id = request.state.request_id
    conversion = await Conversion.prepare(service, body.reader_id, [body], [])
    reader = conversion.reader(body)
    choice = choose(request, service, body.model, body.reader_id, ranker=body.ranker)
    terms = terms_of(request, service, body, body.shortlist)
    filters = filters_of(body, reader, service.store.database.now())
    every = await service.retrieval.candidates(reader.history, filters, terms)
    found = affordable(service, choice, terms, every)
    predictions, found = await predict(service, choice, reader, found, request_id, terms)
    metrics.CANDIDATES.labels(predictions.model).observe(len(found))
    order = predictions.order[: body.top_k]
    results = ranked(service, predictions, found, order, body.explain)
    if results:
        keep(
            service, request_id, predictions, [found[index] for index in order], order, body, reader
        )
    return RecommendResponse(
        id=request_id,
        model=predictions.model,
        results=results,
        candidates=len(found),
        ranker=choice.ranking is not None,
        degraded=predictions.degraded is not None,
        explored=predictions.explored,
        usage=usage(predictions),
        latency_ms=latency_ms(request),
    )


def filters_of(body: RecommendRequest, reader: Reader, now: float) -> Filters:
    """now: of the store's clock, in Unix seconds, for a request that names no time."""
    moment = now if body.time is None else body.time
    hours, categories = body.published_within_hours, body.categories
    read = [story.id for story in (*reader.history, *reader.liked)]
    return Filters(
        moment,
        exclude={*body.exclude, *read, *reader.clicked},
        published_after=None if hours is None else moment - hours * HOUR_S,
        categories=None if categories is None else {one_line(name) for name in categories},
    )


def affordable(
    service: Service, choice: Choice, terms: Terms, found: list[Candidate]
) -> list[Candidate]:
    """As many as the language model may judge, if there is no ranker to choose among all."""
    if choice.ranking is not None or terms.judge_all:
        return found
    usual = service.recommender.shortlists.usual(choice.model.prompts.profile.shortlist)
    return found[: terms.shortlist or usual]


async def predict(
    service: Service,
    choice: Choice,
    reader: Reader,
    found: list[Candidate],
    request_id: str,
    terms: Terms,
) -> tuple[Predictions, list[Candidate]]:
    """The predictions for the candidates, and these without those that are too long for the
    model."""
    while found:
        try:
            pairs = [(reader, targets_of(found))]
            return await service.recommender.predict(choice, pairs, request_id, terms), found
        except StoryTooLong as error:
            too_long = len(found[error.target].story.title)
            found = [one for one in found if len(one.story.title) < too_long]
    return Predictions(choice.name, choice.alias, [], 0, 0), []


def targets_of(found: Sequence[Candidate]) -> list[Story]:
    return [Story(one.story.title, one.story.category, one.story.id) for one in found]


def ranked(
    service: Service,
    predictions: Predictions,
    found: Sequence[Candidate],
    order: Sequence[int],
    explain: bool,
) -> list[RecommendedStory]:
    """order: indices of the candidates to answer with."""
    reasons = explained(service, predictions, targets_of(found), order if explain else ())
    for index in order:
        metrics.RECOMMENDED.labels(found[index].source).inc()
    return [
        RecommendedStory(
            **kept_story(found[index].story).model_dump(),
            index=place,
            rank=place + 1,
            source=found[index].source,
            **judged(predictions.items[index]),
            **reasons.get(index, {}),
        )
        for place, index in enumerate(order)
    ]


def keep(
    service: Service,
    request_id: str,
    predictions: Predictions,
    shown: Sequence[Candidate],
    order: Sequence[int],
    body: RecommendRequest,
    reader: Reader,
) -> None:
    """Keep the answer for feedback, as a ranking of the stories that it shows alone."""
    named = [SentStory(id=one.story.id) for one in shown]
    sent = list(zip(named, targets_of(shown), strict=True))
    service.store.keep(
        request_id,
        predictions.model,
        predictions.alias,
        [predictions.items[index].probability for index in order],
        range(len(order)),
        remembered(body.reader_id, sent, sent_history(body, reader)),
    )
