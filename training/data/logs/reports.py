"""What should stand where a row of a site's log is faulty, in words of its mapping."""

from training.data.faults import FileReport
from training.data.logs.mapping import Mapping

FORMS = {
    "iso": "2026-11-01T09:30:00, 2026-11-01 09:30:00.5+01 or 2026-11-01",
    "unix_s": "seconds since 1970, such as 1793525400",
    "unix_ms": "milliseconds since 1970, such as 1793525400000",
    "unix_us": "microseconds since 1970, such as 1793525400000000",
}


def make_report(name: str, mapping: Mapping) -> FileReport:
    """The report of one file that is about to be read."""
    return FileReport(name, expectations(mapping), unit="row")


def expectations(mapping: Mapping) -> dict[str, str]:
    """By the reason of a fault. It names the columns."""
    stories, events = mapping.stories, mapping.events
    time_form = FORMS.get(mapping.time_format, f"the pattern {mapping.time_format}")
    known = f"an id that a row of {stories.file} has in {stories.id!r}"
    items = f"ids separated by {mapping.list_separator!r} (list_separator), or a list"
    label_column = events.label or events.labels
    where = f"in {label_column!r}" if label_column else f"after {events.label_mark!r}"
    return {
        "rows": "a row for each story or event",
        "not UTF-8": "text in UTF-8, without the character that stands for broken bytes",
        "bad JSON": "a JSON object a line, with text, numbers or lists of them",
        "missing story id": f"an id in {stories.id!r}",
        "empty title": f"a title in {stories.title!r}",
        "repeated story id": f"each id once in {stories.id!r}",
        "bad time": f"in {events.time!r} a time from 1990 to 2100 (time_format"
        f" {mapping.time_format}): {time_form}",
        "no candidates": f"in {events.shown!r} {items}",
        "unknown story": known + ("" if events.shown is None else f"; in {events.shown!r} {items}"),
        "unknown label": f"{where} a click ({words(events.click)}) or none"
        f" ({words(events.view)}); the settings events.click and events.view say which are which",
        "labels do not match": f"in {events.labels!r} as many as in {events.shown!r}",
        "clicked but not shown": f"in {events.clicked!r} ids that {events.shown!r} has too",
        "bad position": f"a number in {events.position!r}, or nothing",
        "no impression": f"an id in {events.impression!r}, or in {events.reader!r}",
        "several readers": f"one reader for each id in {events.impression!r}",
        "lists do not match": "as many times as stories",
    }


def words(labels: tuple[str, ...]) -> str:
    """Labels in a line."""
    return ", ".join(label or "nothing" for label in labels)
