"""What a model is asked, whichever program runs it.

transformers runs every method. vLLM runs base and merged models and LoRA adapters; prefix tuning
(`p_tuning`) and bottleneck adapters (`adapter`) are refused before it starts. A running service is
asked over HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.scoring.calibration import predict
from app.scoring.profile import Profile
from app.scoring.prompt import PromptBuilder
from training.data.prepared import Impression
from training.errors import TrainingError
from training.metrics import Floats
from training.packed.prompts import build_prompts
from training.tuning.sources import Source

TEMPERATURE = 0.01
MAX_TOKENS = 10
"""The original project's parameters when it asks for text."""
SERVED_METHODS = (None, "LORA")
"""Methods of a Source that vLLM runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says of one impression's candidates, each [candidates]. probability: calibrated,
    of a click. mass: the two labels' probability together. labels: Yes., No. or Unknown."""

    probability: Floats
    mass: Floats
    labels: list[str]


class Backend(Protocol):
    """A model that can be asked.

    concurrent: it takes many calls at once instead of many samples in a call. chunk: how many
    impressions to ask about at once, enough to keep it busy and few enough to show progress.
    """

    concurrent: bool
    chunk: int

    @property
    def profile(self) -> Profile | None:
        """How prompts are built; None where only the service knows it."""

    def score(self, impressions: Sequence[Impression]) -> list[Answers]:
        """Judge all candidates. Raises TrainingError."""

    def write(self, samples: Sequence[Impression]) -> list[str]:
        """The text that follows the prompt of each sample's first candidate.

        Raises TrainingError.
        """

    def close(self) -> None:
        """Free what the model holds."""


def check_for_vllm(source: Source) -> None:
    """Raise TrainingError for an adapter that vLLM can't serve."""
    if source.method not in SERVED_METHODS:
        raise TrainingError(
            f"{source.adapter} is a {source.method} adapter and vLLM serves LORA only: evaluate it "
            "with --backend transformers"
        )


def judge(log_yes: Floats, log_no: Floats, profile: Profile) -> Answers:
    """What serving would answer. log_yes, log_no: the labels' natural log-probabilities,
    [candidates] each."""
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
        build_prompts(builder, sample.reader, sample.candidates[:1], limit, sample.id)[0][0].tokens
        for sample in samples
    ]
