"""From the service's store to a log that prepare reads."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StartupError
from app.store.database import Database, reason
from app.store.export import STATEMENT_S, Shown, read_all_stories, read_shown
from training.data.options import CollectOptions
from training.errors import TrainingError
from training.folders import replaced_folder, write_whole
from training.progress import say

HOUR_S = 3600.0
STORIES_FILE, SHOWN_FILE, MAPPING_FILE = "stories.parquet", "impressions.parquet", "log.yaml"
MAPPING = f"""\
stories: {{file: {STORIES_FILE}, id: id, title: title, category: category}}
events:
  file: {SHOWN_FILE}
  impression: id
  reader: reader
  time: time
  history: history
  shown: shown
  labels: clicked
"""
STORIES: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "title": pl.String,
    "category": pl.String,
    "published": pl.Float64,
}
SHOWN: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "reader": pl.String,
    "time": pl.Datetime("ms"),
    "history": pl.List(pl.String),
    "shown": pl.List(pl.String),
    "clicked": pl.List(pl.Boolean),
    "model": pl.String,
    "alias": pl.String,
}
"""reader: the keyed hash in hex. time: UTC. model, alias: what ranked it; null for an event."""


@dataclass(slots=True)
class Collected:
    """What was written, in numbers. unknown: candidates left out, since the store has no title."""

    stories: int = 0
    lists: int = 0
    anonymous: int = 0
    candidates: int = 0
    clicks: int = 0
    unknown: int = 0

    def summary(self, out: Path) -> str:
        text = (
            f"{out}: {self.lists:,} lists of {self.candidates:,} stories with {self.clicks:,}"
            f" clicks, {self.stories:,} stories"
        )
        if self.anonymous:
            text += f"; {self.anonymous:,} lists name no reader"
        if self.unknown:
            text += f"; {self.unknown:,} stories shown are not stored and left out"
        return text


def collect(options: CollectOptions) -> Collected:
    """Write the folder `options.out`, whole or not at all. Raises TrainingError."""
    try:
        database = Database(options.store)
        if database.is_sqlite and not Path(str(database.url.database)).is_file():
            raise TrainingError(f"--store {options.store}: there is no such file")
        database.open()
    except StartupError as error:
        raise TrainingError(f"--store: {error}") from None
    try:
        with replaced_folder(options.out, MAPPING_FILE) as folder:
            return fill(folder, database, options)
    except SQLAlchemyError as error:
        raise TrainingError(f"the store can't be read: {reason(error)}") from None
    finally:
        database.close()


def fill(folder: Path, database: Database, options: CollectOptions) -> Collected:
    found = Collected()
    window_s = options.window * HOUR_S
    ripe = database.now() - window_s
    end = ripe if options.until is None else min(options.until, ripe)
    with database.reading(STATEMENT_S) as connection:
        rows = [
            (one.id, one.title, one.category, one.published) for one in read_all_stories(connection)
        ]
        pl.DataFrame(rows, STORIES, orient="row").write_parquet(folder / STORIES_FILE)
        ids = frozenset(row[0] for row in rows)
        found.stories = len(ids)
        say(f"reading what was shown of {found.stories:,} stories")
        shown = read_shown(connection, options.start or 0.0, end, window_s, options.history)
        write(folder / SHOWN_FILE, shown, ids, found)
    if not found.lists:
        raise TrainingError(
            f"{database.name} holds no list of stored stories that is older than --window; events"
            " and feedback tell what was shown and clicked"
        )
    write_whole(folder / MAPPING_FILE, MAPPING)
    return found


def write(file: Path, shown: Iterator[list[Shown]], ids: Set[str], found: Collected) -> None:
    """Write the lists and count them, a part at a time."""

    def read(*_: object) -> Iterator[pl.DataFrame]:
        for part in shown:
            rows = [row for one in part if (row := as_row(one, ids, found)) is not None]
            yield pl.DataFrame(rows, SHOWN, orient="row")

    register_io_source(read, schema=SHOWN).sink_parquet(file)


def as_row(one: Shown, ids: Set[str], found: Collected) -> tuple[object, ...] | None:
    """A row of SHOWN; None if nothing that was shown is stored."""
    known = [place for place, name in enumerate(one.stories) if name in ids]
    found.unknown += len(one.stories) - len(known)
    if not known:
        return None
    clicked = [one.clicked[place] for place in known]
    found.lists += 1
    found.anonymous += one.reader is None
    found.candidates += len(known)
    found.clicks += sum(clicked)
    return (
        one.id,
        None if one.reader is None else one.reader.hex(),
        round(one.time * 1000),
        [name for name in one.history if name in ids],
        [one.stories[place] for place in known],
        clicked,
        one.model,
        one.alias,
    )
