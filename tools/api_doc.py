"""Writes docs/api.md from docs/openapi.json: `python -m tools.api_doc docs/api.md`.

`make openapi` runs it.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.http.policy import policy_of
from tools.openapi import COMMITTED, ROOT

DOCUMENT = ROOT / "docs" / "api.md"
INTRODUCTION = """# The API

<!-- written by `make openapi` from docs/openapi.json -->
A running service shows the same reference at `/docs`, where you can try each route. Send bodies
with `Content-Type: application/json`. A field that is not listed is rejected, except on OpenAI's
routes. The [client in Python](client.md) has a method for each of the service's own routes.

- **Keys.** If the service has API keys, send `Authorization: Bearer KEY`. Each route names the
  scope it needs; a key with the scope `admin` may call every route. A request without a valid key
  gets a 401, and one whose key lacks the scope a 403. A key that exceeds its requests a minute gets
  a 429 with `Retry-After`.
- **Headers.** `X-Request-Id` names a request, and the answer repeats it. `X-Request-Timeout-Ms`
  says how many milliseconds you will wait; after that the service answers 504.
- **Errors** have OpenAI's shape on every route: [ErrorResponse](#errorresponse). `param` names the
  field at fault. [Overload](operations/overload.md) says how a client should react to each error.
- **Limits** shown here are the highest possible; a service may set lower ones
  ([settings](operations/settings.md)).
"""
GIVEN = "| field | kind | default | |\n|---|---|---|---|\n"
ANSWERED = "| field | kind | |\n|---|---|---|\n"
LINK = re.compile(r"\[(\w+)\]\(#\w+\)")
AUTOMATIC = "HTTPValidationError"  # FastAPI's own shape, which the service never sends


def document() -> str:
    """The whole page in Markdown."""
    api = json.loads(COMMITTED.read_text(encoding="utf-8"))
    types = api["components"]["schemas"]
    routes = [
        route(method, path, operation, types)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    described = {name: f"### {name}\n\n{fields(types[name])}" for name in linked(routes, types)}
    return "\n".join([INTRODUCTION, *routes, "## Types\n", *described.values()])


def linked(routes: list[str], types: dict[str, Any]) -> list[str]:
    """The names of all types that the routes link to, directly or through other types.

    Types that are a whole body or response are described in their route instead.
    """
    found: set[str] = set()
    waiting = LINK.findall(INTRODUCTION + "".join(routes))
    while waiting:
        name = waiting.pop()
        if name in types and name not in found:
            found.add(name)
            waiting += LINK.findall(fields(types[name]))
    return sorted(found)


def route(method: str, path: str, operation: dict[str, Any], types: dict[str, Any]) -> str:
    scope = policy_of(path).scope
    key = f"scope `{scope}`" if scope else "no key"
    parts = [f"## {method.upper()} {path}\n", operation["description"] + "\n", f"Key: {key}.\n"]
    if given := operation.get("parameters"):
        parts.append("Parameters:\n\n" + GIVEN + "".join(parameter(one) for one in given))
    if body := operation.get("requestBody"):
        parts.append(content("Body", body["content"], types))
    errors = []
    for status, answer in operation["responses"].items():
        found = answer.get("content", {})
        if status.startswith("2"):
            parts.append(content(f"Answer, {status}", found, types))
        elif AUTOMATIC not in json.dumps(found):
            errors.append(f"- {status}: {answer['description']}\n")
    return "\n".join([*parts, "Errors:\n\n" + "".join(sorted(errors))])


def content(title: str, found: dict[str, Any], types: dict[str, Any]) -> str:
    """A body or response: its fields or its kind, and its example if there is one."""
    if "text/plain" in found:
        return f"{title}: text.\n"
    schema = found["application/json"].get("schema", {})
    name = type_name(schema)
    whole = types[name] if name else schema
    text = f"{title}:\n\n{fields(whole)}" if name else f"{title}: OpenAI's fields.\n"
    for example in whole.get("examples", [])[:1]:
        text += f"\n```json\n{json.dumps(example, ensure_ascii=False)}\n```\n"
    return text


def fields(schema: dict[str, Any]) -> str:
    """An object's description and the table of its fields."""
    text = f"{schema['description']}\n\n" if "description" in schema else ""
    if schema.get("additionalProperties", True):  # requests take no other fields; answers have all
        rows = (row(name, one) for name, one in schema["properties"].items())
        return text + ANSWERED + "".join(rows)
    needed = schema.get("required", ())
    return (
        text
        + GIVEN
        + "".join(
            row(name, one, default(one, name in needed))
            for name, one in schema["properties"].items()
        )
    )


def parameter(given: dict[str, Any]) -> str:
    return row(given["name"], given["schema"], default(given["schema"], given["required"]))


def row(name: str, field: dict[str, Any], *middle: str) -> str:
    """A row of the table. middle: cells between the kind and the description."""
    text = field.get("description", "").replace("|", "\\|")
    return "| " + " | ".join([f"`{name}`", kind(field), *middle, text]) + " |\n"


def default(field: dict[str, Any], required: bool) -> str:
    """The cell that says what holds if the field is omitted."""
    if required:
        return "required"
    return "" if field.get("default") is None else f"`{json.dumps(field['default'])}`"


def kind(field: dict[str, Any]) -> str:
    """A field's type, choices and bounds in words."""
    if choice := field.get("anyOf", field.get("oneOf")):
        return " or ".join(kind(one) for one in choice)
    if name := type_name(field):
        return f"[{name}](#{name.lower()})"
    if choices := field.get("enum", [field["const"]] if "const" in field else None):
        return ", ".join(f"`{choice}`" for choice in choices)
    word = field["type"]
    if word == "array":
        word = f"list of: {kind(field['items'])}"
    elif word == "object":
        word = f"object, name to {kind(field['additionalProperties'])}"
    limits = ", ".join(bounds(field))
    return f"{word} ({limits})" if limits else word


def bounds(field: dict[str, Any]) -> Iterator[str]:
    """The limits of a field's value and of its length."""
    for limit, sign in (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    ):
        if limit in field:
            yield f"{sign} {field[limit]:,.15g}"
    for part, unit in (("Length", "characters"), ("Items", "entries"), ("Properties", "entries")):
        least, most = field.get(f"min{part}"), field.get(f"max{part}")
        if most is not None:
            yield f"{least} to {most:,} {unit}" if least else f"at most {most:,} {unit}"


def type_name(schema: dict[str, Any]) -> str | None:
    """The name of the type that the schema refers to, if it is a reference."""
    found = schema.get("$ref")
    return str(found).rsplit("/", 1)[1] if found else None


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
    print(f"wrote {sys.argv[1]}")
