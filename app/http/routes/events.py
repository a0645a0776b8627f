"""POST /events: what readers were shown and clicked."""

from fastapi import APIRouter
from pydantic import TypeAdapter

from app.http.bulk import BulkRoute, convert_all
from app.http.dependencies import BODY_ERRORS, STORE_ERRORS, SenderDep, ServiceDep
from app.http.records import by_kind, event_at
from app.http.schemas.events import AnyEvent, Click, EventsAccepted, EventsRequest, Impression

router = APIRouter(tags=["stories and readers"], responses=STORE_ERRORS, route_class=BulkRoute)
EVENT: TypeAdapter[Impression | Click] = TypeAdapter(AnyEvent)


@router.post("/events", responses=BODY_ERRORS)
async def post_events(
    body: EventsRequest, service: ServiceDep, sender: SenderDep
) -> EventsAccepted:
    """Store up to 10,000 impressions and clicks, in any order and from any time in the past.

    If one of them is invalid, none is stored. Send a batch again if its answer did not arrive:
    events with an `id` count once. What is older than the service's `feedback_days` is accepted and
    soon removed.
    """
    event = event_at(service.store.database.now())
    shown, clicked = by_kind(await convert_all(body.events, EVENT, "events", event))
    found = await service.store.add_events(shown, clicked, sender)
    return EventsAccepted(accepted=found.accepted, duplicates=found.duplicates)
