"""log.yaml: which files and columns of a site's log hold what; see docs/your-own-data.md."""

from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from training.errors import TrainingError

MAPPING_FILE = "log.yaml"
"""A folder with it is read by it; one without is MIND's."""
FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"} | {
    ".parquet": "parquet"
}
"""By the ending of a file's name."""
CLICK = ("1", "true", "t", "yes", "y", "click", "clicked")
VIEW = ("", "0", "false", "f", "no", "n", "view", "viewed", "shown", "impression")
"""Labels, in lower case, where the mapping names none; "" is a missing one."""


def check_zone(name: str) -> str:
    """Raises ValueError for what is no time zone."""
    try:
        pl.Series([datetime(2000, 1, 1)]).dt.replace_time_zone(name)
    except pl.exceptions.PolarsError:
        raise ValueError(f"{name!r} is no time zone: write UTC or Europe/Copenhagen") from None
    return name


def check_format(text: str) -> str:
    """Raises ValueError for what is no format of times."""
    if text not in ("iso", "unix_s", "unix_ms", "unix_us") and "%" not in text:
        raise ValueError(
            f"{text!r} is none of iso, unix_s, unix_ms, unix_us, and no pattern such as"
            " '%m/%d/%Y %H:%M:%S'"
        )
    return text


Name = Annotated[str, StringConstraints(min_length=1)]
Letter = Annotated[str, StringConstraints(min_length=1, max_length=1)]
AsList = BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
Texts = Annotated[tuple[str, ...], AsList]
Labels = Annotated[tuple[Annotated[str, StringConstraints(to_lower=True)], ...], AsList]


class Part(BaseModel):
    """A part of the mapping. What it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(Part):
    """How a table's files are read. format: by their names' endings, if it is left out. separator,
    quote: of CSV; an empty quote for none. columns: the names of a CSV file's columns, where its
    first row holds none."""

    format: Literal["csv", "jsonl", "parquet"] | None = None
    separator: Letter | None = None
    quote: str = Field('"', max_length=1)
    columns: tuple[Name, ...] = ()


class Table(Shape):
    """file: relative to the folder. * stands for anything; several files are read in the order of
    their names."""

    file: Name


class Stories(Table):
    """The columns that hold a story's facts, one row a story."""

    id: Name
    title: Name
    category: Name | None = None
    subcategory: Name | None = None
    abstract: Name | None = None


class Events(Table):
    """The columns that hold what happened: one row an impression (`shown`), one row a story shown
    or clicked (`story` and `label`), or one row a click (`story` alone)."""

    time: Name
    reader: Name | None = None
    anonymous: Texts = ()
    impression: Name | None = None
    shown: Name | None = None
    clicked: Name | None = None
    labels: Name | None = None
    label_mark: Name | None = None
    history: Name | None = None
    story: Name | None = None
    label: Name | None = None
    position: Name | None = None
    click: Labels = CLICK
    view: Labels = VIEW
    ignore: Labels = ()

    @model_validator(mode="after")
    def check_form(self) -> "Events":
        """Settings of one form don't go with another's."""
        if (self.shown is None) == (self.story is None):
            raise ValueError(
                "name `shown` (one row an impression, with a list) or `story` (one row a story),"
                " not both"
            )
        form, strange = ("story", "clicked labels label_mark history")
        if self.shown is not None:
            form, strange = ("shown", "label position ignore")
        wrong = [name for name in strange.split() if name in self.model_fields_set]
        if wrong:
            raise ValueError(f"{wrong[0]} does not go with {form}")
        given = self.model_fields_set & {"clicked", "labels", "label_mark"}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(sorted(given))}: name one of them")
        if self.label is not None and self.impression is None and self.reader is None:
            raise ValueError("impression or reader must say which rows were shown together")
        if self.story is not None and self.label is None and self.position is not None:
            raise ValueError("position has no meaning for clicks without impressions")
        both = sorted(set(self.click) & set(self.view))
        if both:
            raise ValueError(f"{both[0]!r} stands in click and in view")
        return self

    @property
    def only_clicks(self) -> bool:
        """Whether nothing says what else was shown."""
        return self.story is not None and self.label is None


class PastClicks(Shape):
    """What the reader clicked before, unless the events have a column `history`: from a file with
    a row a reader and lists, oldest first, and (`clicks`) from the log's own earlier clicks."""

    file: Name | None = None
    reader: Name | None = None
    stories: Name | None = None
    times: Name | None = None
    clicks: bool = True

    @model_validator(mode="after")
    def check_file(self) -> "PastClicks":
        """A file needs its columns."""
        given = {name for name in ("file", "reader", "stories") if getattr(self, name) is not None}
        if len(given) in (1, 2) or (self.times is not None and not given):
            raise ValueError("a history file needs file, reader and stories")
        return self


class Drawn(Part):
    """For clicks without impressions: how many other stories are drawn beside each click, from the
    clicks of so many hours before it."""

    others: PositiveInt = 20
    hours: PositiveFloat = 24.0


class Mapping(Part):
    """log.yaml as a whole. zone: of times that name none."""

    stories: Stories
    events: Events
    history: PastClicks = PastClicks()
    drawn: Drawn = Drawn()
    time_format: Annotated[str, AfterValidator(check_format)] = "iso"
    zone: Annotated[str, AfterValidator(check_zone)] = "UTC"
    list_separator: str = Field(" ", min_length=1)
    unknown_history: Literal["drop", "error"] = "drop"

    @model_validator(mode="after")
    def check_parts(self) -> "Mapping":
        """There is one history, and nothing is drawn where something was shown."""
        if self.events.history is not None and "history" in self.model_fields_set:
            raise ValueError("history: the events have a column for it (events.history)")
        if "drawn" in self.model_fields_set and not self.events.only_clicks:
            raise ValueError("drawn: the events say what was shown, so nothing is drawn")
        return self


PARTS: dict[str, type[BaseModel]] = {
    "stories": Stories,
    "events": Events,
    "history": PastClicks,
    "drawn": Drawn,
}


def read_mapping(file: Path) -> Mapping:
    """Raises TrainingError that names the file and all that can't be used."""
    try:
        # All values as text: `yes`, 1 and 0.10 are what the log holds, not what YAML makes of them.
        found = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise TrainingError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise TrainingError(f"{file} must hold `stories:` and `events:`")
    try:
        return Mapping.model_validate(found)
    except ValidationError as error:
        problems = dict.fromkeys(map(explain, error.errors()))
        raise TrainingError(f"{file}: {'; '.join(problems)}") from None


def explain(error: ErrorDetails) -> str:
    """One of pydantic's errors in a line, with the place in the file."""
    path = [str(part) for part in error["loc"]]
    place = ".".join(path)
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "extra_forbidden":
        known = (PARTS[path[0]] if len(path) > 1 else Mapping).model_fields
        return f"unknown setting {place}{suggest(path[-1], known)}"
    reason = error["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason


def suggest(name: str, known: Any) -> str:
    """`; did you mean …?` for the closest of the known names, if one is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
