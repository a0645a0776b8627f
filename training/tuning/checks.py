"""What a model allows a run to do, and what can be done with the run's result, before it begins."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from transformers import PreTrainedModel

from app.engine import lora
from training.errors import TrainingError
from training.tuning.config import FinetuneConfig

MODULE_PATTERNS = ("rank_pattern", "alpha_pattern", "exclude_modules")
"""Options of PEFT whose keys or items are regular expressions for the ends of modules' names."""


def check_targets(model: PreTrainedModel, target: Sequence[str], peft: Mapping[str, Any]) -> None:
    """Raise TrainingError, suggesting the closest name, for a module that the model does not have:
    in lora_target, or in the options of PEFT that name modules."""
    known = [name for name, _ in model.named_modules()]
    wanted: list[tuple[str, str]] = []
    if target != "all":
        wanted += [("lora_target", re.escape(name)) for name in target]
    for option in MODULE_PATTERNS:
        patterns = peft.get(option) or []
        if not isinstance(patterns, str):
            wanted += [(f"peft.{option}", str(pattern)) for pattern in patterns]
    for option, pattern in wanted:
        if not any(re.fullmatch(rf"(.*\.)?({pattern})", name) for name in known):
            close = get_close_matches(pattern, {name.split(".")[-1] for name in known}, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TrainingError(f"{option}: the model has no module {pattern!r}{hint}")


def serving_limits(config: FinetuneConfig, model: Any) -> list[str]:
    """Lines that say what can't be done later with what this run makes. model: as `create` returns
    it."""
    if config.method in ("p_tuning", "adapter"):
        return [f"what {config.method} makes can't be served or merged, only evaluated"]
    if config.method == "full":
        return []
    settings = model.peft_config["default"].to_dict()
    reasons = lora.beyond_lora(settings)
    rank = max([settings["r"], *settings["rank_pattern"].values()])
    if rank > lora.LORA_RANKS[-1]:
        reasons.append(f"rank {rank} (at most {lora.LORA_RANKS[-1]})")
    words = [name for name in model.targeted_module_names if lora.VOCABULARY.search(name)]
    is_head_alone = not any("embed_tokens" in name for name in words)
    if words and (model.config.tie_word_embeddings or not is_head_alone):
        reasons.append(f"lora_target {words[0]}")  # no plain matrix of the base's own
    if reasons:
        return [f"this adapter can't be served or merged, only evaluated: {', '.join(reasons)}"]
    return [f"this adapter can be served merged only: it adapts {words[0]}"] if words else []


def check_window(model: PreTrainedModel, config: FinetuneConfig) -> None:
    """Raise TrainingError for a sliding window shorter than a prompt: packed rows have one mask for
    all layers."""
    types = getattr(model.config, "layer_types", None) or []
    window = getattr(model.config, "sliding_window", None)
    if "sliding_attention" in types and window is not None and config.cutoff_len > window:
        raise TrainingError(
            f"this model's attention window is {window}: set cutoff_len to at most that"
        )
