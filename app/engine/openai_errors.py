"""vLLM's errors for an OpenAI request → ours, in the words of the client's JSON.

vLLM's own messages name its command line's flags, its Python types, and files of its libraries.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError, create_model
from vllm import exceptions

from app.errors import BadRequest, ModelNotFound, Overloaded, ServiceError

CLIENT_ERRORS = (
    getattr(exceptions, "VLLMClientError", ValueError),
    *(ValueError, TypeError, OverflowError, NotImplementedError),
)
"""What vLLM's wire types and serving code raise for a request they can't handle: vLLM's own error,
and Python's errors where vLLM does not use its own yet (in 0.26, everywhere)."""
FULL: type[Exception] | tuple[()] = getattr(exceptions, "GracefulHTTPError", ())
"""Raised when a limit of vLLM's own is reached; not in 0.26."""

CONSTRAINTS = ("structured_outputs", "response_format")
ABOUT_CONSTRAINT = re.compile("grammar|schema|regex|choice|structur", re.IGNORECASE)
IMPOSSIBLE = "the constraint can't be compiled, or allows no text (a rule that only calls itself)"
TYPE_WORDS = {
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "dataclass_exact_type": "must be an object",
    "list_type": "must be a list",
    "iterable_type": "must be a list",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "missing": "is missing",
}
FLAG = re.compile(r"--[a-z]+(-[a-z]+)+")
SOURCE_LINE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ")
PARAMETERS = re.compile(r" \(parameter=.*\)$", re.DOTALL)
PYTHON_DICT = re.compile(r": \{'.*", re.DOTALL)


def invalid_body(schema: type[BaseModel], body: Mapping[str, Any], error: Exception) -> BadRequest:
    """error: what `schema` raised for the body."""
    if isinstance(error, ValidationError):
        return invalid_field(error, body)
    if not isinstance(error, getattr(exceptions, "VLLMClientError", ())):
        # A check of vLLM's that expects another type stumbled over a field: find out which.
        for name in body.keys() & schema.model_fields.keys():
            one: Any = {name: (schema.model_fields[name].annotation, ...)}
            try:
                create_model(name, **one).model_validate({name: body[name]})
            except ValidationError as found:
                return invalid_field(found, body)
    return bad_request(error, body)


def invalid_field(error: ValidationError, body: Mapping[str, Any]) -> BadRequest:
    """Name the field that most of pydantic's problems are about, and what it may be. A field of
    several types has a problem for each of them."""
    problems: dict[str, list[str]] = {}
    for problem in error.errors():
        words = TYPE_WORDS.get(problem["type"]) or problem["msg"].replace("Input should", "must", 1)
        problems.setdefault(path_in(body, problem["loc"]), []).append(words)
    field = max(problems, key=lambda name: (len(problems[name]), name.count(".")))
    words = " or ".join(dict.fromkeys(problems[field])).replace(" or must be ", " or ")
    return BadRequest(f"{field or 'body'}: {words}", field or None)


def path_in(body: Any, location: Sequence[int | str]) -> str:
    """The part of pydantic's location that is a path in the body; the rest names Python's types."""
    value, path = body, []
    for part in location:
        is_index = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_index or (isinstance(value, Mapping) and part in value):
            value = value[part]
        elif not (isinstance(value, Mapping) and part == location[-1] and is_name(part)):
            continue
        path.append(str(part))
    return ".".join(path)


def is_name(part: int | str) -> bool:
    """Whether a location's last part may be a missing field: names of types have capitals."""
    return isinstance(part, str) and part.isidentifier() and part.islower()


def invalid_part(body: Mapping[str, Any]) -> BadRequest:
    """vLLM reads the parts of a message's content while it works, and does not say which of them it
    did not understand."""
    for number, message in enumerate(body.get("messages", ())):
        content, field = message.get("content"), f"messages.{number}.content"
        parts = content if isinstance(content, list) else []
        wrong = next((place for place, part in enumerate(parts) if not is_text_part(part)), None)
        if wrong is not None:
            problem = 'must be like {"type": "text", "text": "a string"}'
            return BadRequest(f"{field}.{wrong}: {problem}", f"{field}.{wrong}")
        if not isinstance(content, str | list | None):
            return BadRequest(f"{field}: must be a string or a list of parts", field)
    return BadRequest("messages: must be a list of messages", "messages")


def is_text_part(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
    )


def bad_request(error: Exception, body: Mapping[str, Any]) -> BadRequest:
    message = str(error) or type(error).__name__
    reason = str(error.__cause__)
    if isinstance(error.__cause__, RuntimeError) and reason not in message:  # of a library
        message = f"{message.removesuffix('.')}: {reason}"
    return refusal(message, getattr(error, "parameter", None), body)


def refusal(message: str, param: str | None, body: Mapping[str, Any]) -> BadRequest:
    """vLLM's message and parameter without what only its operator and its authors know."""
    if FLAG.search(message):
        param = param or field_in(message, body)
        return BadRequest(f"{param or 'this'}: not available in this service", param)
    for internal in (SOURCE_LINE, PARAMETERS, PYTHON_DICT):
        message = internal.sub("", message)
    message = message.strip()
    if param is None and ABOUT_CONSTRAINT.search(message):
        param = constraint_in(body)
    return BadRequest(message, param)


def constraint_in(body: Mapping[str, Any]) -> str | None:
    """The body's field that constrains the answer, if there is one."""
    unconstrained = (None, {"type": "text"})
    return next((name for name in CONSTRAINTS if body.get(name) not in unconstrained), None)


def field_in(message: str, body: Mapping[str, Any]) -> str | None:
    """The body's field that a message talks about."""
    text = message.replace("_", " ").lower()
    named = [name for name in body if name.removesuffix("s").replace("_", " ") in text]
    return max(named, key=len, default=None)


def failed_generation(body: Mapping[str, Any]) -> BadRequest | None:
    """What it means that the engine ended an answer with an error: a constraint is at fault if
    there is one, else it is not known."""
    constraint = constraint_in(body)
    return BadRequest(f"{constraint}: {IMPOSSIBLE}", constraint) if constraint else None


def error_event(line: str) -> Any:
    """The error in a line of an event stream, or None."""
    return json.loads(line[6:])["error"] if line.startswith('data: {"error"') else None


def as_service_error(problem: Mapping[str, Any], body: Mapping[str, Any]) -> ServiceError:
    """Convert an error that vLLM answers into one of ours. The engine is alive."""
    status, message = int(problem["code"]), str(problem["message"])
    if status == 404:
        return ModelNotFound(message, "model")
    if status == 503:
        return Overloaded(message)
    if status == 500:
        return failed_generation(body) or ServiceError("the engine failed on this request")
    return refusal(message, problem.get("param"), body)
