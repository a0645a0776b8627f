"""A folder with a site's own log, read by a mapping."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from training.data.catalogue import TEXTS, StoryIds
from training.data.faults import FileReport
from training.data.logs.drawn import draw_others
from training.data.logs.events import as_clicks, finish, gather, gather_block, parse_events
from training.data.logs.histories import (
    CLICKS,
    add_histories,
    keep_needed,
    number_readers,
    read_clicks,
)
from training.data.logs.histories import ROWS as READERS
from training.data.logs.impressions import CODES, parse_facts, parse_impressions
from training.data.logs.mapping import Mapping, Shape
from training.data.logs.reports import make_report
from training.data.logs.stories import read_stories
from training.data.logs.tables import Source
from training.errors import TrainingError

LISTS = frozenset({"shown", "clicked", "labels", "history", "stories", "times"})
"""Roles that hold lists."""
EVENT_ROWS = 500_000
"""How many rows are read at a time where each is one story; of impressions, 50,000."""


class SiteLog:
    """The log of one split. The mapping's files are relative to `folder`; `where` names the mapping
    in messages; limit: only so many rows of events are read, to look at them."""

    def __init__(
        self, folder: Path, split: str, mapping: Mapping, where: Path, limit: int | None = None
    ) -> None:
        self.folder, self.split, self.mapping, self.limit = folder, split, mapping, limit
        self.mapping_name = str(where)
        events = mapping.events
        self.stories = self._source(
            where, "stories", mapping.stories.file, mapping.stories, ("id", *TEXTS)
        )
        roles = ("time", "reader", "impression")
        form = ("shown", "clicked", "labels", "history", "story", "label", "position")
        self.events = self._source(where, "events", events.file, events, roles + form)
        past = ("reader", "stories", "times")
        self.past = self._source(
            where, "history", mapping.history.file or "", mapping.history, past
        )

    def _source(
        self, where: Path, name: str, file: str, part: Shape, roles: tuple[str, ...]
    ) -> Source:
        columns = {role: getattr(part, role) for role in roles if getattr(part, role) is not None}
        lists = frozenset(columns) & LISTS
        rows = READERS if name == "history" else 50_000 if lists else EVENT_ROWS
        return Source(f"{where}: {name}", self.folder, file, part, columns, lists, rows)

    def name(self, file: Path) -> str:
        """A file's name in messages; no two files of a data set have the same."""
        name = file.relative_to(self.folder) if file.is_relative_to(self.folder) else file
        return f"{self.split}/{file.name if '..' in name.parts else name.as_posix()}"

    def columns(self) -> Iterator[str]:
        """Which column of which file is taken for what, in lines."""
        for source in (self.stories, self.events, self.past):
            if source.columns:
                pairs = ", ".join(f"{role} = {column}" for role, column in source.columns.items())
                names = ", ".join(self.name(file) for file in source.files())
                yield f"{source.where.rpartition(' ')[2]} of {names}: {pairs}"

    def first_time(self) -> str:
        """How the time of the first row is written, and what it is taken for, in a line."""
        file = self.events.files()[0]
        report = make_report(self.name(file), self.mapping)
        rows = next(self.events.blocks(file, report, 1), pl.DataFrame())
        if rows.is_empty():
            return "there is no first row"
        raw = str(rows["time"][0])
        found = parse_facts(rows, self.mapping, report)["time"]
        meaning = f"{found[0]} UTC" if len(found) else "no time"
        return f"the first row's time, {raw}, is {meaning}"

    def no_labels(self, story: str) -> str:
        """What to do about a log that does not say what was clicked."""
        return (
            f"{self.events.where}: nothing says which of the stories shown, such as {story}, were"
            " clicked: name clicked, labels or label_mark, or give the folder as --test"
        )

    @property
    def builds_history(self) -> bool:
        """Whether histories come from elsewhere than the events' own column."""
        return self.mapping.events.history is None

    @property
    def is_drawn(self) -> bool:
        """Whether nobody was shown the other candidates of a click."""
        return self.mapping.events.only_clicks

    def read_stories(self, max_bad_share: float) -> tuple[pl.DataFrame, list[FileReport]]:
        """id and TEXTS. Raises TrainingError."""
        files = self.stories.files()
        read = [
            read_stories(self.stories, file, self.name(file), self.mapping, max_bad_share)
            for file in files
        ]
        return pl.concat(stories for stories, _ in read), [report for _, report in read]

    def read_impressions(
        self, ids: StoryIds, history: int, max_bad_share: float
    ) -> tuple[pl.DataFrame, list[FileReport]]:
        """As training.data.mind.read_behaviors. Without a column for it, history is empty until
        add_history; where only clicks are known, nothing else is shown until draw. Raises
        TrainingError."""
        reports: list[FileReport] = []
        source, labelled = self._labelled_source()
        if self.mapping.events.shown is not None:
            parts = list(self._lists(source, ids, history, reports))
        else:
            parts = list(self._parts(source, ids, reports))
        check(reports, max_bad_share)
        rows = pl.concat(parts)
        if self.mapping.events.label is not None:
            rows = finish(gather(rows), self.split, reports[-1])
            check(reports, max_bad_share)
        if "history" not in rows.columns:
            rows = rows.with_columns(history=pl.lit([], CODES))
        order = ("impression", "user", "time", "history", "shown")
        return rows.select(order).with_columns(labelled=pl.lit(labelled)), reports

    def _labelled_source(self) -> tuple[Source, bool]:
        """The events, and whether they say what was clicked: a test's may lack that column."""
        events, source = self.mapping.events, self.events
        role = "clicked" if events.clicked else "labels" if events.labels else None
        if events.story is not None or events.label_mark is not None:
            return source, True
        if role is None:
            return source, False
        first = source.files()[0]
        if self.split != "test" or source.columns[role] in source.names(first):
            return source, True
        columns = {name: column for name, column in source.columns.items() if name != role}
        return replace(source, columns=columns), False

    def _blocks(
        self, source: Source, reports: list[FileReport]
    ) -> Iterator[tuple[pl.DataFrame, FileReport]]:
        """All blocks of the events, with the report of their file."""
        left = self.limit
        for file in source.files():
            report = make_report(self.name(file), self.mapping)
            reports.append(report)
            for block in source.blocks(file, report, left):
                yield block, report
            if left is not None and (left := left - report.rows) <= 0:
                return

    def _lists(
        self, source: Source, ids: StoryIds, history: int, reports: list[FileReport]
    ) -> Iterator[pl.DataFrame]:
        for block, report in self._blocks(source, reports):
            yield parse_impressions(block, ids, self.mapping, history, report)

    def _parts(
        self, source: Source, ids: StoryIds, reports: list[FileReport]
    ) -> Iterator[pl.DataFrame]:
        for block, report in self._blocks(source, reports):
            rows = parse_events(block, ids, self.mapping, report)
            yield as_clicks(rows, report.name) if self.is_drawn else gather_block(rows, report)

    def add_history(
        self,
        rows: pl.DataFrame,
        clicks: pl.DataFrame,
        ids: StoryIds,
        keep: int,
        max_bad_share: float,
    ) -> tuple[pl.DataFrame, list[FileReport]]:
        """The impressions with what their readers clicked strictly earlier: in the history file
        and, unless the mapping says otherwise, among `clicks`, those of all splits' logs."""
        reports: list[FileReport] = []
        readers = number_readers(rows)
        parts = [pl.DataFrame(schema=CLICKS)]
        for file in self.past.files() if self.mapping.history.file is not None else ():
            report = make_report(self.name(file), self.mapping)
            reports.append(report)
            blocks = read_clicks(self.past, file, report, ids, readers, self.mapping)
            parts += [keep_needed(block, readers, keep) for block in blocks]
        check(reports, max_bad_share)
        if self.mapping.history.clicks:
            parts.append(clicks.join(readers, on="user").select(list(CLICKS)))
        return add_histories(rows, readers, pl.concat(parts), keep), reports

    def draw(self, rows: pl.DataFrame, stories: int, seed: int) -> pl.DataFrame:
        """The clicks with other stories beside them. Raises TrainingError where there are none."""
        found = draw_others(rows, stories, self.mapping.drawn, seed)
        if found.is_empty() and len(rows):
            raise TrainingError(
                f"{self.events.where}: of {len(rows):,} clicks none has another reader's click in"
                f" the {self.mapping.drawn.hours:g} hours before it (drawn.hours), so there is"
                " nothing to compare it with"
            )
        return found


def check(reports: list[FileReport], max_bad_share: float) -> None:
    """Raise TrainingError for the first file that is too faulty."""
    for report in reports:
        report.check(max_bad_share)
