"""Which models can be asked for, by name: the base (or merged) model and its adapters."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.engine.base import Engine
from app.errors import AdapterRejected, ModelNotFound, StartupError
from app.peft_adapter import read_adapter
from app.progress import step
from app.scoring.profile import load_profile
from app.scoring.prompt import Encoder, PromptBuilder, Reader, Story
from app.settings import Settings

PROBE = Reader(history=[Story("Tesla unveils a cheaper electric car")])
PROBE_TARGET = Story("Microsoft builds a wind farm")


@dataclass(frozen=True)
class ServedModel:
    """The base or merged model, or an adapter on it."""

    name: str
    folder: Path
    is_adapter: bool
    prompts: PromptBuilder

    @property
    def adapter(self) -> str | None:
        """The engine's name for it."""
        return self.name if self.is_adapter else None

    @property
    def labels(self) -> tuple[int, int]:
        return self.prompts.yes, self.prompts.no


class ModelRegistry:
    """Name → served model."""

    def __init__(self, models: dict[str, ServedModel], default: str) -> None:
        self._models = models
        self.default = default

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str | None) -> ServedModel:
        """None means the default model. Raises ModelNotFound."""
        model = self._models.get(self.default if name is None else name)
        if model is None:
            raise ModelNotFound(
                f"no model {name!r}; there are {', '.join(self._models)}", param="model"
            )
        return model


def read_models(settings: Settings) -> ModelRegistry:
    """What the settings name, read from its folders; nothing is loaded yet.

    Raises StartupError for a folder that can't be served, before an engine starts in vain.
    """
    folders = {settings.base_name: settings.model, **settings.adapters}
    if settings.base_name in settings.adapters:
        raise StartupError(f"adapter {settings.base_name!r} has the base model's name")
    default = settings.default_model or settings.base_name
    if default not in folders:
        raise StartupError(f"default_model {default!r} is not among {', '.join(folders)}")
    encoder = read_encoder(settings.model)
    models = {}
    try:
        for name, folder in folders.items():
            is_adapter = name in settings.adapters
            if is_adapter:
                read_adapter(folder)
            prompts = PromptBuilder(encoder, load_profile(folder))
            models[name] = ServedModel(name, folder, is_adapter, prompts)
    except (ValueError, AdapterRejected) as error:  # a profile's errors are ValueErrors
        raise StartupError(str(error)) from error
    return ModelRegistry(models, default)


def read_encoder(model: Path) -> Encoder:
    if not (model / "config.json").is_file():
        raise StartupError(
            f"no model in {model} (no config.json); bring the default one with"
            " `python -m training download smollm2`, or set FRONTPAGE_MODEL to another's folder"
        )
    file = model / "tokenizer.json"
    if not file.is_file():
        raise StartupError(f"{model} holds no tokenizer.json, which the service needs")
    return Encoder(file)


async def load_models(models: ModelRegistry, engine: Engine) -> None:
    """Bring the adapters into the started engine. Raises StartupError for one it does not take."""
    for model in models:
        await engine.use_labels(model.labels)
        if model.is_adapter:
            try:
                with step(f"adapter {model.name} from {model.folder}"):
                    await engine.load_adapter(model.name, model.folder)
                    await check_effect(engine, model)
            except AdapterRejected as error:
                raise StartupError(str(error)) from error


async def check_effect(engine: Engine, model: ServedModel) -> None:
    """vLLM silently ignores an adapter whose tensor names do not match (vLLM issue 34186)."""
    prompts = model.prompts.build(PROBE, [PROBE_TARGET], engine.max_prompt_tokens)
    with_adapter, without = [
        (await engine.score(prompts, model.labels, adapter, "probe"))[0]
        for adapter in (model.adapter, None)
    ]
    if (with_adapter.log_yes, with_adapter.log_no) == (without.log_yes, without.log_no):
        raise AdapterRejected(
            f"adapter {model.name} changes no score: its tensors match nothing in the base model"
        )
