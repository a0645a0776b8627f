"""Everything that can be set, in one frozen object.

From environment variables (`FRONTPAGE_PORT=9000`, nested with two underscores:
`FRONTPAGE_ENGINE__MAX_MODEL_LEN=4096`) and, below them, from a JSON file named by
`FRONTPAGE_CONFIG`.
"""

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.schemas import MAX_CANDIDATES, MAX_PAIRS


class Limits(BaseModel):
    """What one request may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(4 << 20, gt=0, description="a larger body is a 413")
    max_candidates: int = Field(MAX_CANDIDATES, gt=0, le=MAX_CANDIDATES)
    max_pairs: int = Field(MAX_PAIRS, gt=0, le=MAX_PAIRS)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="FRONTPAGE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    model: Path = Field(
        Path("models/smollm2-135m-instruct"),
        description="folder of the base model, or of a merged one",
    )
    model_name: str | None = Field(None, description="its name in the API; default: the folder's")
    adapters: dict[str, Path] = Field({}, description="name → folder of a PEFT LoRA adapter")
    default_model: str | None = Field(
        None, description="answers requests that name no model; default: the base or merged model"
    )
    engine: dict[str, Any] = Field(
        {}, description="options passed to vLLM's AsyncEngineArgs under vLLM's own names"
    )
    limits: Limits = Limits()

    @property
    def base_name(self) -> str:
        return self.model_name or self.model.resolve().name

    @field_validator("engine", mode="after")
    @classmethod
    def parse_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Options from environment variables arrive as text: read numbers, booleans and JSON."""
        return {name: parsed(value) for name, value in options.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get("FRONTPAGE_CONFIG")
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, JsonConfigSettingsSource(settings_cls, Path(file))


def parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value.lower() if value in ("True", "False") else value)
    except ValueError:
        return value
