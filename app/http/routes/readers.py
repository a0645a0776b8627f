"""GET and DELETE /readers/{id}: what is known about a reader."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.http.dependencies import NOT_STORED, STORE_ERRORS, ServiceDep
from app.http.paths import READER
from app.http.records import known_reader
from app.http.schemas.readers import ErasedReader, KnownReader

router = APIRouter(tags=["stories and readers"], responses=STORE_ERRORS)
ReaderId = Annotated[str, Path(min_length=1, max_length=200)]


@router.get(READER, responses=NOT_STORED)
async def get_reader(reader_id: ReaderId, service: ServiceDep) -> KnownReader:
    """What is known about a reader: the stories clicked last, and how much is kept."""
    return known_reader(reader_id, await service.store.reads.reader(reader_id))


@router.delete(READER)
async def delete_reader(reader_id: ReaderId, service: ServiceDep) -> ErasedReader:
    """Erase all impressions and clicks of a reader until now, and say how many there were.

    What other instances have not written yet is erased too, within about a minute of being written.
    """
    erased = await service.store.erase_reader(reader_id)
    return ErasedReader(impressions=erased.impressions, clicks=erased.clicks)
