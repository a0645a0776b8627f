"""Where a model's files are: those of a base or merged model, or of an adapter and its base."""

from dataclasses import dataclass
from pathlib import Path

from app.engine import lora
from app.scoring.encoder import Encoder
from app.scoring.profile import Profile, ProfileError, load_profile
from app.scoring.prompt import PromptBuilder
from training.errors import TrainingError
from training.folders import read_json
from training.tuning import bottleneck

ADAPTER_FILES = (
    (lora.CONFIG_FILE, "base_model_name_or_path", "peft_type"),
    (bottleneck.CONFIG_FILE, "base_model", "method"),
)
"""A file that makes a folder an adapter, and its fields for the base and the method."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's files are, and how its prompts are built.

    adapter: None for a base or merged model. method: of an adapter, one of PEFT's types, such as
    "LORA", or "bottleneck".
    """

    base: Path
    adapter: Path | None
    method: str | None
    profile: Profile

    def builder(self) -> PromptBuilder:
        """Builds the model's prompts with its own tokenizer."""
        return PromptBuilder(Encoder(self.base / "tokenizer.json"), self.profile)


def find_source(folder: Path, base: Path | None) -> Source:
    """folder: a base or merged model, or an adapter on `base` or, without it, on the base it names.

    Raises TrainingError naming what is missing.
    """
    profile = read_profile(folder)
    for file, named, method in ADAPTER_FILES:
        if (folder / file).is_file():
            config = read_json(folder / file)
            base = base or find_base(folder, config.get(named) or profile.base_model)
            return Source(check_model(base), folder, config.get(method, "bottleneck"), profile)
    return Source(check_model(folder), None, None, profile)


def find_base(folder: Path, named: str | None) -> Path:
    """The folder of the base that an adapter names: as it is named, beside the adapter, or in
    models/. Raises TrainingError."""
    if named:
        for place in (Path(named), folder.parent / named, Path("models") / Path(named).name):
            if place.is_dir():
                return place
    raise TrainingError(f"{folder} is an adapter on {named}: name its folder with --base")


def check_model(folder: Path) -> Path:
    """The folder. Raises TrainingError if it holds no model."""
    for file in ("config.json", "tokenizer.json"):
        if not (folder / file).is_file():
            raise TrainingError(f"{folder} holds no {file}: not a model folder")
    return folder


def read_profile(folder: Path) -> Profile:
    """A model's profile; the original project's where it has none. Raises TrainingError."""
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder")
    try:
        return load_profile(folder)
    except ProfileError as error:
        raise TrainingError(str(error)) from None
