"""Checks that a quantized model scores and orders stories like the model it was made from."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from transformers.utils import logging

from app.scoring.prompt import PromptBuilder
from training.data.prepared import Impression
from training.errors import TrainingError
from training.merging.check import compute_in_float32
from training.metrics import Floats
from training.packed.scorer import score
from training.quantizing.options import QuantizeOptions
from training.quantizing.record import CheckFindings
from training.tuning.methods import best_device, load_trained
from training.tuning.sources import find_source


@dataclass(frozen=True, slots=True)
class Scores:
    """odds: each reader's log-odds of Yes. against No., [candidates]. mass: the mean probability of
    the two labels together."""

    odds: list[Floats]
    mass: float


def compare(model: Path, quantized: Path, impressions: Sequence[Impression]) -> CheckFindings:
    """Score with both models, one after the other. What goes into a quantized matrix is rounded as
    it is when served; all else is float32 arithmetic. Raises TrainingError."""
    builder = find_source(model, None).builder()
    before, after = (score_all(folder, builder, impressions) for folder in (model, quantized))
    difference = np.abs(np.concatenate(after.odds) - np.concatenate(before.odds))
    return CheckFindings(
        prompts=len(difference),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        order=float(np.mean([*map(same_order, before.odds, after.odds)])),
        mass=before.mass,
        quantized_mass=after.mass,
    )


def score_all(folder: Path, builder: PromptBuilder, impressions: Sequence[Impression]) -> Scores:
    """The scores of a model that is loaded for them alone."""
    model = load(folder)
    scores = score(model, builder, impressions)
    del model
    gc.collect()
    mass = [np.exp(np.logaddexp(yes, no)) for yes, no in scores]
    return Scores([yes - no for yes, no in scores], float(np.concatenate(mass).mean()))


def load(folder: Path) -> Any:
    """A model whose weights are held as stored and used in float32, each module's while it runs."""
    logging.disable_progress_bar()
    model = load_trained(folder, device=best_device())
    compute_in_float32(model)
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:  # it would round the weights to bfloat16 once more
        quantizer.compressor.remove_decompression_hook(model)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            module.register_forward_pre_hook(rescale)
    return model


def rescale(module: torch.nn.Module, _: Any) -> None:
    """A quantized module's hook before it runs, once its parameters are float32."""
    weight, scale = module.get_parameter("weight"), module.get_parameter("weight_scale")
    weight.data = weight.data * scale.data


def same_order(before: Floats, after: Floats) -> float:
    """Spearman's rank correlation of one reader's scores; of scores that are all equal 1 where they
    stay so, else 0."""
    if np.ptp(before) == 0 or np.ptp(after) == 0:
        return float(np.ptp(before) == np.ptp(after))
    return float(spearmanr(before, after).statistic)


def check_limits(found: CheckFindings, options: QuantizeOptions) -> None:
    """Raise TrainingError, which names every limit that is not kept and by how much."""
    lost = found.mass - found.quantized_mass
    broken = []
    if not found.mean_difference <= options.max_difference:
        broken.append(
            f"log-odds differ by {found.mean_difference:.3g} on average"
            f" (--max-difference {options.max_difference:g})"
        )
    if not found.order >= options.min_order:
        broken.append(
            f"the rank correlation of a reader's stories is {found.order:.3f}"
            f" (--min-order {options.min_order:g})"
        )
    if not lost <= options.max_mass_loss:
        broken.append(
            f"the two labels hold {found.quantized_mass:.3f} of the probability instead of"
            f" {found.mass:.3f} (--max-mass-loss {options.max_mass_loss:g})"
        )
    if broken:
        raise TrainingError(f"not quantized, on {found.prompts} prompts: {'; '.join(broken)}")
