"""PUT /stories, and what is stored about one story."""

from fastapi import APIRouter
from pydantic import TypeAdapter

from app.errors import NotFound
from app.http.bulk import BulkRoute, convert_all
from app.http.dependencies import BODY_ERRORS, NOT_STORED, STORE_ERRORS, ServiceDep
from app.http.paths import STORY
from app.http.records import kept_story, live_figure, story_within
from app.http.schemas.readers import ErasedStory
from app.http.schemas.stories import (
    Id,
    SentStory,
    StoriesRequest,
    StoriesStored,
    StoryWithFigure,
)

router = APIRouter(tags=["stories and readers"], responses=STORE_ERRORS, route_class=BulkRoute)
SENT = TypeAdapter(SentStory)


@router.put("/stories", responses=BODY_ERRORS)
async def put_stories(body: StoriesRequest, service: ServiceDep) -> StoriesStored:
    """Store up to 10,000 stories, so that requests can name them by their ids alone.

    A story that is stored already is replaced; of several with the same id the last counts. If one
    is invalid, none is stored.
    """
    story = story_within(service.settings.limits)
    stories = await convert_all(body.stories, SENT, "stories", story)
    stored = await service.store.put_stories(stories)
    service.encoders.announce([story.title for story in stories])
    return StoriesStored(stored=stored)


@router.get(STORY, responses=NOT_STORED)
async def get_story(story_id: Id, service: ServiceDep) -> StoryWithFigure:
    """A story as it is stored, and how often it was shown and clicked so far."""
    found = await service.store.reads.stories([story_id])
    if story_id not in found:
        raise NotFound(f"no story {story_id!r} is stored", "story_id")
    story = found[story_id]
    now = service.store.database.now()
    live = live_figure(service.live.figures([story_id], [story.category], now), now)
    return StoryWithFigure(**kept_story(story).model_dump(), live=live)


@router.delete(STORY, responses=NOT_STORED)
async def delete_story(story_id: Id, service: ServiceDep) -> ErasedStory:
    """Erase a story and the clicks on it. Impressions keep its id.

    Other instances may use its title, and recommend it, for up to 30 seconds more.
    """
    erased = await service.store.erase_story(story_id)
    service.retrieval.catalogue.erase(story_id)
    return ErasedStory(stories=erased.stories, clicks=erased.clicks)
