"""The two labels' log-probabilities for impressions, by a transformers model of any method."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from app.scoring.prompt import PromptBuilder
from training.data.prepared import Impression
from training.errors import TrainingError
from training.metrics import Floats
from training.packed.objective import Task, accept_packed_rows
from training.packed.prompts import build_prompts
from training.packed.rows import Group, collate, group_prompts

Scores = list[tuple[Floats, Floats]]

LONGEST_PROMPT = 8192
"""Tokens. Prompts are cut to this length for models that would take more."""


def score(
    model: Any,
    builder: PromptBuilder,
    impressions: Sequence[Impression],
    batch_tokens: int = 4096,
    limit: int | None = None,
) -> Scores:
    """(log_yes, log_no) of each impression's candidates, both [candidates]: natural logarithms over
    the whole vocabulary, from label logits in float32.

    limit: the longest prompt in tokens, to which titles are cut; by default what the model takes.
    batch_tokens: of a forward pass. Several processes (torch.distributed) share the work; each must
    call, and each gets all scores. Raises TrainingError for a `limit` that not even a prompt
    without a title fits into, and for scores that are not finite.
    """
    inner = plain(model)
    accept_packed_rows(inner)
    limit = limit or min(inner.config.max_position_embeddings, LONGEST_PROMPT)
    groups: list[tuple[int, Group]] = []
    for number, impression in enumerate(impressions):
        prompts, _ = build_prompts(
            builder, impression.reader, impression.candidates, limit, impression.id
        )
        tokens = max(batch_tokens, limit)
        groups += [(number, group) for group in group_prompts(prompts, None, None, tokens)]
    scores = [
        (np.empty(len(impression.candidates)), np.empty(len(impression.candidates)))
        for impression in impressions
    ]
    batches = by_length(groups, batch_tokens)
    with uncompiled(inner):
        results = run(model, batches, Task(builder.yes, builder.no))
    for batch, log_yes, log_no in results:
        places = [(number, branch.place) for number, group in batch for branch in group.branches]
        for (number, place), yes, no in zip(places, log_yes, log_no, strict=True):
            scores[number][0][place], scores[number][1][place] = yes, no
    for impression, found in zip(impressions, scores, strict=True):
        check_finite(impression, *found)
    return scores


def check_finite(impression: Impression, *found: Floats) -> None:
    """Raise TrainingError if one of the numbers found for an impression is not finite."""
    if not all(np.isfinite(numbers).all() for numbers in found):
        raise TrainingError(
            f"impression {impression.id} got a score that is not a number: the weights may be"
            " damaged, too large for their dtype, or of a training that has diverged (then use an"
            " earlier checkpoint or a lower learning_rate)"
        )


def by_length(
    groups: Sequence[tuple[int, Group]], batch_tokens: int
) -> list[list[tuple[int, Group]]]:
    """Groups of similar length in batches of at most `batch_tokens` with padding; a longer group is
    a batch of its own."""
    batches: list[list[tuple[int, Group]]] = []
    for group in sorted(groups, key=lambda item: len(item[1]), reverse=True):
        last = batches[-1] if batches else []
        if last and len(last[0][1]) * (len(last) + 1) <= batch_tokens:
            last.append(group)
        else:
            batches.append([group])
    return batches


def run(
    model: Any, batches: Sequence[list[tuple[int, Group]]], task: Task
) -> list[tuple[list[tuple[int, Group]], list[float], list[float]]]:
    """Each batch with its answers' log-probabilities, from all processes."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    size = torch.distributed.get_world_size() if distributed else 1
    rank = torch.distributed.get_rank() if distributed else 0
    device = next(model.parameters()).device
    model.eval()
    done = []
    # Every process runs equally many batches: a sharded model's forward pass needs them all.
    for index in range(rank, -(-len(batches) // size) * size, size):
        arrays = collate([[group] for _, group in batches[index % len(batches)]])
        asked = {name: array for name, array in arrays.items() if name != "labels"}
        tensors = {name: torch.from_numpy(array).to(device) for name, array in asked.items()}
        with torch.no_grad():
            out = model(**tensors, task=task)
        done.append((index, out["log_yes"].tolist(), out["log_no"].tolist()))
    if distributed:
        parts: list[Any] = [None] * size
        torch.distributed.all_gather_object(parts, done)
        done = [item for part in parts for item in part]
    return [(batches[index], yes, no) for index, yes, no in done if index < len(batches)]


@contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """Score with sdpa and plain layers instead of flex_attention and compiled layers: batches have
    many shapes, and each would be compiled anew."""
    implementation = model.config._attn_implementation
    if implementation == "flex_attention":
        model.set_attn_implementation("sdpa")
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        if implementation == "flex_attention":
            model.set_attn_implementation(implementation)


def plain(model: Any) -> Any:
    """The transformers model inside PEFT's wrapper and any wrapper for several processes."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "peft_config") else model
