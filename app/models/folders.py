"""Reading models from their folders, before an engine runs them."""

import logging
from collections.abc import Callable
from pathlib import Path

from app.errors import AdapterRejected, InvalidValue, StartupError
from app.knowledge.ranking import Ranking
from app.likeness.folder import EncoderError
from app.likeness.tower import TowerError
from app.models.adapter_folder import check_lora, check_name
from app.models.registry import TEXT_ALONE, ModelRegistry, ServedModel, model_of
from app.observability import metrics
from app.ranker.ranker import RankerError
from app.scoring.encoder import Encoder
from app.scoring.profile import load_profile
from app.scoring.prompt import PromptBuilder
from app.settings import Settings

logger = logging.getLogger("frontpage")

LoadRanking = Callable[[Path], Ranking | None]


def read_models(settings: Settings, load_ranking: LoadRanking) -> ModelRegistry:
    """Check the settings' models and return a registry with them, the base or merged model and
    adapters of version 1; no weights are loaded.

    Raises StartupError for settings and folders that can't be served, before an engine starts.
    """
    name = settings.base_name
    if name in settings.adapters:
        raise StartupError(f"adapter {name!r} has the base model's name")
    if name.endswith(TEXT_ALONE):
        raise StartupError(f"model_name: {name!r} can't end with {TEXT_ALONE}")
    encoder = read_encoder(settings.model)
    try:
        base = read_model(encoder, load_ranking, name, settings.model, 0)
        adapters = []
        for adapter, folder in settings.adapters.items():
            check_name(adapter)
            check_lora(folder, settings)
            adapters.append(read_model(encoder, load_ranking, adapter, folder, 1))
    except (AdapterRejected, InvalidValue) as error:
        raise StartupError(str(error)) from error
    default = settings.default_model or name
    known = {name, *settings.adapters, *settings.aliases}
    if default not in known and model_of(default) not in known:
        raise StartupError(f"default_model {default!r} is not among {', '.join(sorted(known))}")
    models = ModelRegistry(base, default, settings.aliases)
    for model in adapters:
        models.put(model)
    return models


def read_model(
    encoder: Encoder, load_ranking: LoadRanking, name: str, folder: Path, version: int
) -> ServedModel:
    """A model of the settings. One whose ranker's files are broken is served without it. Raises
    AdapterRejected."""
    prompts, ranking = read_prompts(encoder, folder), None
    try:
        ranking = load_ranking(folder)
    except (RankerError, TowerError) as error:
        logger.error("%s is served without its ranker, by text alone: %s", name, error)
        metrics.RANKER_BROKEN.labels(name).set(1)
    except EncoderError as error:
        raise AdapterRejected(str(error), "path") from error
    return ServedModel(name, version, folder, prompts, str(folder), ranking)


def read_encoder(model: Path) -> Encoder:
    if not (model / "config.json").is_file():
        raise StartupError(
            f"no model in {model} (no config.json); `make serve` creates the default one, or set"
            " FRONTPAGE_MODEL to another folder"
        )
    file = model / "tokenizer.json"
    if not file.is_file():
        raise StartupError(f"{model} holds no tokenizer.json, which the service needs")
    return Encoder(file)


def read_prompts(encoder: Encoder, folder: Path) -> PromptBuilder:
    try:
        return PromptBuilder(encoder, load_profile(folder))
    except ValueError as error:
        raise AdapterRejected(str(error), "path") from error


def read_ranking(load: LoadRanking, folder: Path) -> Ranking | None:
    """Raises AdapterRejected."""
    try:
        return load(folder)
    except ValueError as error:
        raise AdapterRejected(str(error), "path") from error
