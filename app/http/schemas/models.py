"""The wire types of adapters, aliases and the list of models."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.http.schemas.base import Wire
from app.models.desired import AliasWeights


class AdapterRequest(Wire):
    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={"examples": [{"name": "news-v2", "path": "news-v2"}]},
    )

    name: str = Field(
        max_length=64,
        description="The name under which the adapter will be served. Loading a name again"
        " replaces its adapter.",
    )
    path: str = Field(
        max_length=1000, description="The adapter's folder, below the service's `adapter_root`."
    )


class Adapter(BaseModel):
    name: str
    version: int
    source: str
    status: Literal["serving", "failed"]
    error: str | None = None


class AdapterList(BaseModel):
    adapters: list[Adapter]


class AliasRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"weights": {"news-smollm2": 10, "news-v2": 90}}]}
    )

    weights: AliasWeights = Field(
        description="Share of readers by model name. The shares need not add up to 1."
    )


class Alias(BaseModel):
    alias: str
    weights: dict[str, float]


class AliasList(BaseModel):
    aliases: list[Alias]


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["frontpage"] = "frontpage"
    parent: str | None = Field(None, description="The base model of an adapter.")
    max_model_len: int


class ModelList(BaseModel):
    """In OpenAI's shape. Aliases are listed too."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
