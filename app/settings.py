"""All settings of the service, in one frozen object.

Options of the command that serves take precedence (`--port 9000`). Next come environment variables
(`FRONTPAGE_PORT=9000`; nested names use two underscores, as in
`FRONTPAGE_ENGINE__MAX_MODEL_LEN=4096`), then the files in the folder FRONTPAGE_SECRETS, each named
like a variable (`frontpage_api_keys`), and then the JSON file FRONTPAGE_CONFIG.
"""

import json
import os
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from app.errors import StartupError

KeyScope = Literal["predict", "events", "admin"]
MAX_CANDIDATES = 1000
MAX_PAIRS = 1000
MAX_STORIES = 1000
MAX_TITLE_CHARS = 10_000
"""The highest values that the limits below can be set to, which the API's schema states too."""


class Limits(BaseModel):
    """Limits on single requests and on all requests together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(4 << 20, gt=0, description="A larger body is answered with 413.")
    max_bulk_bytes: int = Field(
        16 << 20,
        gt=0,
        description="The same for PUT /stories and POST /events, whose bodies hold thousands.",
    )
    max_candidates: int = Field(MAX_CANDIDATES, gt=0, le=MAX_CANDIDATES, description="In a /rank.")
    max_pairs: int = Field(MAX_PAIRS, gt=0, le=MAX_PAIRS, description="In a /predict/batch.")
    max_stories: int = Field(
        MAX_STORIES, gt=0, le=MAX_STORIES, description="In each of a reader's lists."
    )
    max_title_chars: int = Field(
        MAX_TITLE_CHARS, gt=0, le=MAX_TITLE_CHARS, description="In a story's title."
    )
    max_choices: int = Field(
        128,
        gt=0,
        description="How many answers a chat or completion may ask for with `n` or `best_of`, over"
        " all of its prompts.",
    )
    max_pending_requests: int = Field(
        1000, gt=0, description="Requests in progress at once. Further ones are answered with 503."
    )
    max_pending_tokens: int | None = Field(
        None,
        gt=0,
        description="Prompt tokens in progress at once. When so many are pending, further requests"
        " are answered with 503. Default: as many as two engine steps compute.",
    )
    slice_tokens: int | None = Field(
        None,
        gt=0,
        description="The engine gets a prediction or ranking of more tokens than one engine step,"
        " and the prompts of a chat or completion, in slices of so many, and other requests in"
        " between. Default: 256 on a CPU, a whole step on a GPU.",
    )
    timeout_ms: int = Field(
        30_000,
        gt=0,
        description="Deadline of a request without X-Request-Timeout-Ms. Past it, the answer is"
        " 504.",
    )


class ApiKey(BaseModel):
    """An API key, created by `python -m app.security NAME`. Only its hash is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64, description="Name in the access log.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: frozenset[KeyScope] = frozenset({"predict"})
    requests_per_minute: int | None = Field(
        None, gt=0, description="Beyond it, the answer is 429. Default: no limit."
    )


def path_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="FRONTPAGE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
        cli_exit_on_error=False,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
        cli_kebab_case=True,
        cli_show_env_vars=True,
    )

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Without API keys it is always 127.0.0.1."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe messages that are logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="`text` for people, or `json`: one object a line."
    )
    api_keys: tuple[ApiKey, ...] = Field(
        (), description="A JSON list. Without keys, anyone on this machine may do anything."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may call the service: a JSON list."
    )
    trace_endpoint: str | None = Field(
        None,
        description="OTLP over HTTP, for example http://localhost:4318/v1/traces. Default: no"
        " traces.",
    )
    drain_s: float = Field(
        30.0, ge=0, description="How many seconds in-flight requests have to finish after SIGTERM."
    )

    keep_alive_s: int = Field(
        75,
        gt=0,
        description="How many seconds an idle connection stays open. A proxy in front must close"
        " its idle connections earlier, or it may send a request into one that is just closing.",
    )

    model: Path = Field(
        Path("models/news-smollm2"),
        description="Folder of the base model or of a merged model.",
    )
    model_name: str | None = Field(
        None, description="The model's name in the API. Default: the folder's name."
    )
    adapters: dict[str, Path] = Field({}, description="Folders of PEFT LoRA adapters by name.")
    merged: bool = Field(
        False,
        description="Serve the only adapter merged into the base model: faster, but the base model"
        " itself is not served.",
    )
    state: Path = Field(
        Path("state"),
        description="Folder for what outlives a restart: loaded adapters, aliases, feedback.",
    )
    instance_name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="This instance's name among those that share a store. Default: the host's name"
        " and the port.",
    )
    adapter_root: Annotated[str, BeforeValidator(path_text)] | None = Field(
        None,
        description="Folder, or URL for fsspec (s3://…, gs://…, abfs://…), below which adapters can"
        " be loaded while serving. All instances must see the same. Default: none can.",
    )
    max_adapters: int = Field(
        4,
        gt=0,
        description="How many adapters can be loaded while serving, at once. Their memory is"
        " reserved at the start.",
    )
    max_adapter_rank: int = Field(
        16,
        gt=0,
        le=512,
        description="The highest rank of an adapter loaded while serving. Its memory is reserved"
        " too.",
    )
    aliases: dict[str, dict[str, float]] = Field(
        {},
        description='Weights of models by alias, for example {"default": {"base": 10, "news":'
        " 90}}.",
    )
    store: str | None = Field(
        None,
        description="URL of the database that remembers stories, impressions, clicks and what is"
        " served: sqlite:///FILE for services on one machine, postgresql://… for any number."
        " Default: frontpage.sqlite in the state folder.",
    )
    remember: bool = Field(
        False,
        description="Keep what requests of /rank and /predict carry, too: stories, hashed reader"
        " ids, histories. Without it, only the ids of the stories shown are kept. Stories and"
        " events that a site sends are always kept.",
    )
    reader_key: SecretStr | None = Field(
        None,
        description="Secret with which readers' ids are hashed before they are stored. All"
        " instances need the same. Default with SQLite: one is made in the state folder.",
    )
    feedback_days: float = Field(
        30.0, gt=0, description="How many days impressions and clicks are kept."
    )
    feedback_answers: int = Field(
        1_000_000,
        ge=0,
        description="How many impressions, and how many clicks, are kept at most. 0 turns feedback"
        " off; only days limit the events of a site then.",
    )
    story_days: float = Field(
        365.0, gt=0, description="How many days a story is kept after it was last sent or shown."
    )
    encoder: Path = Field(
        Path("models/all-minilm-l6-v2"),
        description="Folder of the sentence encoder that rankers compare titles with.",
    )
    shortlist: int | None = Field(
        None,
        gt=0,
        description="How many candidates of a /rank the language model judges at most: those that"
        " the ranker's first stage likes best. The others follow them in its order. Default: what"
        " the model's profile says, or else 20. A request may ask for more or fewer.",
    )
    shortlist_least: int | None = Field(
        None,
        gt=0,
        description="Down to how many candidates the shortlist shrinks while the engine is busy or"
        " the deadline is near. Default: it does not shrink.",
    )
    degraded: bool = Field(
        True,
        description="Answer /rank and /predict from the ranker's first stage, marked `degraded`,"
        " while the language model can't: it is overloaded, too slow for the deadline, or away. If"
        " false, the answer is 503 or 504 then.",
    )
    explore: bool = Field(
        False,
        description="Give new stories a chance: order by what their click-through may be (a"
        " Thompson sample), not by what it is so far. Probabilities stay as they are.",
    )
    live_half_life_hours: float | None = Field(
        None,
        gt=0,
        description="After how many hours a click or an impression weighs half in a story's live"
        " figures. Default: they never lose weight.",
    )
    live_stories: int = Field(
        100_000,
        gt=0,
        description="How many stories have live figures; the least recently shown leave.",
    )
    live_key_limit: int = Field(
        10_000,
        gt=0,
        description="How many impressions, and as many clicks, one API key can add to a story's"
        " live figures within an hour, however many readers it names. Without keys there is no"
        " limit.",
    )
    catalogue_stories: int = Field(
        100_000,
        ge=0,
        description="Among how many stories /recommend finds candidates: those that were sent or"
        " shown last. They are kept in memory, with 4 bytes for each number of a vector: 1.5 kB a"
        " story with the default encoder. 0 turns /recommend off.",
    )
    retrieval_index: Literal["exact", "faiss"] = Field(
        "exact",
        description="How /recommend finds stories that are like a reader's: `exact` compares with"
        " all of them, `faiss` with a part, for more than 100,000 stories. It needs the package"
        " faiss-cpu (requirements/faiss.txt).",
    )
    default_model: str | None = Field(
        None,
        description="The model for requests that name none. Default: the base or merged model.",
    )
    engine: dict[str, Any] = Field(
        {}, description="Options passed to vLLM's AsyncEngineArgs under vLLM's own names."
    )
    engine_restarts: int = Field(
        3,
        ge=0,
        description="How often within 10 minutes the engine may be started again under the"
        " running service, after it has died or hung. Beyond that, the process exits with code 1."
        " 0: never.",
    )
    engine_hang_s: float = Field(
        60.0,
        gt=0,
        description="For how many seconds the engine may answer nothing, not even between two of"
        " its steps, before it is killed and counts as dead.",
    )
    limits: Limits = Limits()

    @property
    def room_for_adapters(self) -> int:
        """The number of adapters that can be served at once."""
        return len(self.adapters) + (self.max_adapters if self.adapter_root is not None else 0)

    @property
    def instance(self) -> str:
        return self.instance_name or f"{socket.gethostname()}:{self.port}"

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:///{self.state / 'frontpage.sqlite'}"

    @property
    def base_name(self) -> str:
        return self.model_name or self.model.resolve().name

    @field_validator("engine", mode="after")
    @classmethod
    def parse_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Parse numbers, booleans and JSON, which environment variables deliver as text."""
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
        sources = [init_settings, env_settings]
        if folder := os.environ.get("FRONTPAGE_SECRETS"):
            sources.append(SecretsSettingsSource(settings_cls, folder_of_secrets(folder)))
        if file := os.environ.get("FRONTPAGE_CONFIG"):
            sources.append(JsonConfigSettingsSource(settings_cls, Path(file)))
        return tuple(sources)


def read_settings(arguments: list[str] | None = None, program: str | None = None) -> Settings:
    """Read all settings. Raises StartupError, which names the invalid setting.

    arguments: options such as `--port 9000`, which come before the environment. `--help` and what
    is no setting end the process. program: its name in help and errors.
    """
    try:
        return Settings(_cli_parse_args=arguments, _cli_prog_name=program)
    except (ValidationError, OSError, ValueError) as error:
        if not isinstance(error, ValidationError):
            text = str(error).removeprefix("error parsing CLI: ")
            raise StartupError(f"settings: {text}") from None
        first = error.errors()[0]
        name = "__".join(str(part) for part in first["loc"]).upper()
        raise StartupError(f"setting FRONTPAGE_{name}: {first['msg']}") from None


def folder_of_secrets(name: str) -> Path:
    """The folder of secrets. Raises ValueError if it is missing: the service must not start without
    its keys."""
    if not Path(name).is_dir():
        raise ValueError(f"FRONTPAGE_SECRETS: {name} is not a folder")
    return Path(name)


def parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value.lower() if value in ("True", "False") else value)
    except ValueError:
        return value
