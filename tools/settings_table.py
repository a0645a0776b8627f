"""The table of all settings in docs/operations/settings.md, made from Settings.

`python -m tools.settings_table docs/operations/settings.md` writes it there.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.settings import ApiKey, Settings
from tools.openapi import ROOT

PAGE = "docs/operations/settings.md"
DOCUMENT = ROOT / PAGE
BEGIN = f"<!-- settings: written by `python -m tools.settings_table {PAGE}` -->\n"
END = "<!-- settings: end -->"
HEAD = "| {} | kind | default | |\n|---|---|---|---|\n"
BOUNDS = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ "}


def table() -> str:
    """All settings, and the fields of an entry of api_keys."""
    schema, key = Settings.model_json_schema(), ApiKey.model_json_schema()
    return (
        HEAD.format("setting")
        + "".join(row(*one) for one in settings(schema))
        + "\nAn entry of `api_keys` has:\n\n"
        + HEAD.format("field")
        + "".join(row(*one, needed=key["required"]) for one in settings(key))
    )


def settings(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and schema of each setting; those of a group are called like `limits.timeout_ms`."""
    for name, field in schema["properties"].items():
        if "$ref" in field:
            group = schema["$defs"][field["$ref"].rsplit("/", 1)[1]]
            yield from ((f"{name}.{inner}", found) for inner, found in settings(group))
        else:
            yield name, field


def row(name: str, field: dict[str, Any], needed: Sequence[str] = ()) -> str:
    default = "" if field.get("default") is None else f"`{text_of(field['default'])}`"
    if name in needed:
        default = "required"
    text = field.get("description", "").replace("|", "\\|")
    return f"| `{name}` | {kind(field)} | {default} | {text} |\n"


def text_of(value: Any) -> str:
    """A setting's value as a variable of the environment holds it."""
    return value if isinstance(value, str) else json.dumps(value)


def kind(field: dict[str, Any]) -> str:
    """Its type, choices and bounds, in words; a None that is allowed is an empty default."""
    [field] = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    word = "path" if field.get("format") == "path" else field["type"]
    bounds = [sign + str(field[bound]) for bound, sign in BOUNDS.items() if bound in field]
    return " ".join([word, ", ".join(bounds)]).strip()


def with_table(document: str) -> str:
    """The document with the table between its two marks. ValueError where they are missing."""
    before, found, rest = document.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"the lines {BEGIN!r} and {END!r} are missing")
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {file}")
