"""Checks that a merged model gives the scores of its base with the adapters."""

import gc
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from torch import Tensor

from app.engine.weights import weight_files
from app.scoring.prompt import PromptBuilder
from app.scoring.wording import Reader, Story
from training.data.prepared import Impression, PreparedData
from training.errors import TrainingError
from training.merging.record import CheckFindings
from training.metrics import Floats
from training.packed.scorer import score
from training.tuning.methods import best_device, load_trained, load_unprefixed
from training.tuning.sources import find_source

PROMPTS = 64
CANDIDATES = 8
MAX_ROUNDING = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""By how much log-odds may move when each weight is rounded once to this precision."""
MAX_EFFECT_SHARE = 0.1
"""A model that is off by more than this share of the adapter's effect has lost some of it."""
STORIES = (
    "City council votes to build a new tram line",
    "How to grow tomatoes on a small balcony",
    "Home team wins the final after extra time",
    "Storm warning issued for the northern coast",
    "Ten easy soups for cold evenings",
    "Scientists find a new species of deep-sea crab",
    "Carmaker recalls 40,000 electric vans",
    "Actor returns to the stage after six years",
)


def make_impressions(data: Path | None) -> list[Impression]:
    """PROMPTS prompts, CANDIDATES for each reader, from `data`'s val split or from STORIES."""
    if data is not None:
        found = islice(PreparedData(data).impressions("val"), PROMPTS)
        readers = [(impression.reader, impression.candidates[:CANDIDATES]) for impression in found]
    else:
        stories = [Story(title) for title in STORIES]
        readers = [
            (Reader(history=stories[number:] + stories[:number]), stories)
            for number in range(PROMPTS // CANDIDATES)
        ]
    return [
        Impression(str(number), "", reader, candidates, [""] * len(candidates), None)
        for number, (reader, candidates) in enumerate(readers)
    ]


def compare(
    base: Path, adapters: Sequence[Path], merged: Path, impressions: Sequence[Impression]
) -> CheckFindings:
    """Score with the adapters' mean and with the merged model, in float32 arithmetic, one after the
    other.

    Raises TrainingError where log-odds differ by more than rounding to the base's precision
    explains.
    """
    builder = find_source(adapters[0], base).builder()
    stored = precision(merged)
    model = with_adapters(base, adapters)
    unmerged = log_odds(model, builder, impressions)
    with model.disable_adapter():
        effect = float(np.abs(log_odds(model, builder, impressions) - unmerged).max())
    del model
    gc.collect()
    model = load_trained(merged, device=best_device())
    compute_in_float32(model)
    difference = np.abs(log_odds(model, builder, impressions) - unmerged)
    allowed = MAX_ROUNDING[stored] + MAX_EFFECT_SHARE * effect
    if not difference.max() <= allowed:
        raise TrainingError(
            f"merged and unmerged scores differ by {difference.max():.3g} in log-odds, more than"
            f" rounding to {name(stored)} explains ({allowed:.3g}): not merged"
        )
    return CheckFindings(
        prompts=len(difference),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        adapter_effect=effect,
        dtype=name(stored),
    )


def with_adapters(base: Path, adapters: Sequence[Path]) -> Any:
    """The base with the adapters' mean, as PEFT applies it."""
    model = load_trained(adapters[0], base, device=best_device())
    if len(adapters) > 1:
        names = ["default", *(str(number) for number in range(1, len(adapters)))]
        for name, adapter in zip(names[1:], adapters[1:], strict=True):
            model.load_adapter(adapter, name)
            load_unprefixed(model, adapter, name)
        model.base_model.set_adapter(names)  # their sum
        for module in model.modules():
            if isinstance(module, LoraLayer):
                for name in module.scaling:
                    module.scaling[name] /= len(names)
    compute_in_float32(model)
    return model


def compute_in_float32(model: torch.nn.Module) -> None:
    """Let each module of the model widen its weights while it runs; they stay mapped from their
    files as stored. In bfloat16, a deep model's activations would differ by more than its weights.
    """
    for module in model.modules():
        own = [(parameter, parameter.data) for parameter in module.parameters(recurse=False)]
        if own:
            module.register_forward_pre_hook(partial(widen, own))
            module.register_forward_hook(partial(narrow, own))


def widen(own: Sequence[tuple[Tensor, Tensor]], *_: Any) -> None:
    """A module's hook before it runs. own: its parameters, each with its data as stored."""
    for parameter, stored in own:
        parameter.data = stored.float()


def narrow(own: Sequence[tuple[Tensor, Tensor]], *_: Any) -> None:
    """A module's hook after it has run: its parameters are as stored again."""
    for parameter, stored in own:
        parameter.data = stored


def log_odds(model: Any, builder: PromptBuilder, impressions: Sequence[Impression]) -> Floats:
    """The first PROMPTS prompts' log-odds of Yes. against No., [prompts]."""
    scores = score(model, builder, impressions)
    odds: Floats = np.concatenate([yes - no for yes, no in scores])[:PROMPTS]
    return odds


def precision(model: Path) -> torch.dtype:
    """The dtype of most of a model's parameters."""
    sizes: Counter[torch.dtype] = Counter()
    for name, file in weight_files(model).items():
        with safe_open(file, "pt") as tensors:
            tensor = tensors.get_tensor(name)
        sizes[tensor.dtype] += tensor.numel()
    return max(sizes, key=lambda dtype: sizes[dtype])


def name(dtype: torch.dtype) -> str:
    """Such as bfloat16."""
    return str(dtype).removeprefix("torch.")
