"""The wire types of adapters, aliases and the list of models."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.http.schemas.base import Wire
from app.models.alias_weights import AliasWeights


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


AdapterVersion = Annotated[
    int, Field(description="The version that is served or, if none is, the one that should be.")
]
AdapterState = Annotated[
    Literal["serving", "loading", "failed"],
    Field(
        description="`failed`: the newest version could not be loaded. The one served before, if"
        " any, still is, and the load is tried again."
    ),
]


class Adapter(BaseModel):
    name: str
    version: AdapterVersion
    source: str
    status: AdapterState
    error: str | None = None


class AdapterAtInstance(BaseModel):
    """An adapter at one of the instances that share the store."""

    instance: str
    version: AdapterVersion
    status: AdapterState
    error: str | None = None


class ListedAdapter(Adapter):
    """An adapter at the instance that answers, and at each instance."""

    instances: list[AdapterAtInstance]


class AdapterList(BaseModel):
    adapters: list[ListedAdapter]


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
    ranker: bool = Field(
        description="Whether the model has a ranker. If it has, its name with `:text` at the end"
        " names the language model alone. False for aliases."
    )
    max_model_len: int | None = Field(
        description="In tokens. Null while the language model is loaded or started again."
    )


class ModelList(BaseModel):
    """In OpenAI's shape. Aliases are listed too."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
