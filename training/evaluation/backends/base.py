"""How a model is asked, whichever program runs it, and where its files are.

transformers runs every method. vLLM runs base and merged models and LoRA adapters; prefix tuning
(`p_tuning`) and bottleneck adapters (`adapter`) it can't, and it says so before it starts. A
running service is asked over HTTP.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from app.engine import lora
from app.scoring.calibration import predict
from app.scoring.encoder import Encoder
from app.scoring.profile import Profile, ProfileError, load_profile
from app.scoring.prompt import PromptBuilder
from training.data.prepared import Impression
from training.errors import TrainingError
from training.evaluation.metrics import Floats
from training.packed.rows import build_prompts
from training.tuning import bottleneck

TEMPERATURE = 0.01
MAX_TOKENS = 10
"""The original project's parameters when it asks for text."""
ADAPTER_FILES = (
    (lora.CONFIG_FILE, "base_model_name_or_path", "peft_type"),
    (bottleneck.CONFIG_FILE, "base_model", "method"),
)
"""A file that makes a folder an adapter, and its fields for the base and the method."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says of one impression's candidates, each [candidates]. probability: calibrated,
    of a click; mass: what the two labels hold together; labels: Yes., No. or Unknown."""

    probability: Floats
    mass: Floats
    labels: list[str]


class Backend(Protocol):
    """A model that can be asked. concurrent: it takes many calls at once, not many samples a call.
    profile: None where only the service knows it. chunk: how many impressions to ask about at once,
    enough to keep it busy, few enough to see progress."""

    concurrent: bool
    chunk: int

    @property
    def profile(self) -> Profile | None: ...

    def score(self, impressions: Sequence[Impression]) -> list[Answers]: ...

    def write(self, samples: Sequence[Impression]) -> list[str]:
        """The text that follows the prompt of each sample's first candidate."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model lies. adapter: None for a base or merged model; method: "LORA" or another of
    PEFT's types, or "bottleneck", of an adapter."""

    base: Path
    adapter: Path | None
    method: str | None
    profile: Profile

    def builder(self) -> PromptBuilder:
        return PromptBuilder(Encoder(self.base / "tokenizer.json"), self.profile)


def find_source(folder: Path, base: Path | None) -> Source:
    """folder: a base or merged model, or an adapter on `base`, or else on the base it names.

    Raises TrainingError naming what is missing.
    """
    profile = read_profile(folder)
    for file, named, method in ADAPTER_FILES:
        if (folder / file).is_file():
            config = json.loads((folder / file).read_bytes())
            base = base or find_base(folder, config.get(named) or profile.base_model)
            return Source(check_model(base), folder, config.get(method, "bottleneck"), profile)
    return Source(check_model(folder), None, None, profile)


def find_base(folder: Path, named: str | None) -> Path:
    """The folder that an adapter calls its base: as it says, beside the adapter, or in models/."""
    if named:
        for place in (Path(named), folder.parent / named, Path("models") / Path(named).name):
            if place.is_dir():
                return place
    raise TrainingError(f"{folder} is an adapter on {named}: say where that is with --base FOLDER")


def check_model(folder: Path) -> Path:
    for file in ("config.json", "tokenizer.json"):
        if not (folder / file).is_file():
            raise TrainingError(f"{folder} holds no {file}: not a model folder")
    return folder


def check_for_vllm(source: Source) -> None:
    """Raises TrainingError for an adapter that vLLM can't serve."""
    if source.method not in (None, "LORA"):
        raise TrainingError(
            f"{source.adapter} is a {source.method} adapter and vLLM serves LORA only: evaluate it "
            "with --backend transformers"
        )


def read_profile(folder: Path) -> Profile:
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder")
    try:
        return load_profile(folder)
    except ProfileError as error:
        raise TrainingError(str(error)) from None


def judge(log_yes: Floats, log_no: Floats, profile: Profile) -> Answers:
    """The labels' natural log-probabilities, [candidates] each → what serving would answer."""
    found = [predict(float(y), float(n), profile) for y, n in zip(log_yes, log_no, strict=True)]
    return Answers(
        np.array([a.probability for a in found]),
        np.array([a.label_mass for a in found]),
        [a.label for a in found],
    )


def first_prompts(
    builder: PromptBuilder, samples: Sequence[Impression], limit: int
) -> list[list[int]]:
    """The prompt of each sample's first candidate, in tokens."""
    return [
        build_prompts(builder, sample.reader, sample.candidates[:1], limit, sample.id)[0].tokens
        for sample in samples
    ]
