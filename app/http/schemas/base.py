"""What wire types have in common, and the answers of many routes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator


class Wire(BaseModel):
    """Unknown fields are rejected: a misspelt one would otherwise pass silently."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="The field at fault.")
    code: str | None
    request_id: str


class ErrorResponse(BaseModel):
    """OpenAI's error shape, on every route."""

    error: ErrorDetail


EngineState = Annotated[
    Literal["loading", "ready", "restarting", "failed"],
    Field(
        description="`loading`: for the first time. `restarting`: a new one takes the place of one"
        " that has died or hung."
    ),
]


class Health(BaseModel):
    status: Literal["ok"]
    engine: EngineState


class Readiness(Health):
    level: Literal["full", "degraded"] = Field(
        description="`full`: the language model answers. `degraded`: only the rankers' first stages"
        " do."
    )


class Removed(BaseModel):
    removed: str


def as_sent(value: Any, _: ValidatorFunctionWrapHandler) -> Any:
    return value


Unvalidated = WrapValidator(as_sent)
"""Marks what is validated later, in portions. Unlike pydantic's SkipValidation it leaves the type's
name in the API's schema."""
