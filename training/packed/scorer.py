"""The two labels' log-probabilities for impressions, by a transformers model of any method."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from app.scoring.prompt import PromptBuilder
from training.data.prepared import Impression
from training.errors import TrainingError
from training.memory import check_room, scoring_need
from training.metrics import Floats
from training.packed.objective import Task, accept_packed_rows
from training.packed.prompts import build_prompts
from training.packed.rows import Group, collate, group_prompts
from training.progress import progress

Scores = list[tuple[Floats, Floats]]

LONGEST_PROMPT = 8192
"""Tokens. Prompts are cut to this length for models that would take more."""


def score(
    model: Any,
    builder: PromptBuilder,
    impressions: Sequence[Impression],
    batch_tokens: int = 4096,
    limit: int | None = None,
    what: str = "",
) -> Scores:
    """(log_yes, log_no) of each impression's candidates, both [candidates]: natural logarithms over
    the whole vocabulary, from label logits in float32.

    limit: the longest prompt in tokens, to which titles are cut; by default what the model takes.
    batch_tokens: of a forward pass. what: how lines of progress call the work; without it there are
    none. Several processes (torch.distributed) share the work; each must
    call, and each gets all scores. Raises TrainingError for a `limit` that not even a prompt
    without a title fits into, for scores that are not finite, and where memory is too short.
    """
    inner = plain(model)
    accept_packed_rows(inner)
    limit = limit or min(inner.config.max_position_embeddings, LONGEST_PROMPT)
    groups = read_groups(builder, impressions, limit, max(batch_tokens, limit), what)
    scores = [
        (np.empty(len(impression.candidates)), np.empty(len(impression.candidates)))
        for impression in impressions
    ]
    batches = by_length(groups, batch_tokens)
    check_memory(inner, batches, batch_tokens)
    with uncompiled(inner):
        results = run(model, batches, Task(builder.yes, builder.no), what)
    for batch, log_yes, log_no in results:
        places = [(number, branch.place) for number, group in batch for branch in group.branches]
        for (number, place), yes, no in zip(places, log_yes, log_no, strict=True):
            scores[number][0][place], scores[number][1][place] = yes, no
    for impression, found in zip(impressions, scores, strict=True):
        check_finite(impression, *found)
    return scores


def read_groups(
    builder: PromptBuilder, impressions: Sequence[Impression], limit: int, tokens: int, what: str
) -> list[tuple[int, Group]]:
    """Each impression's prompts as groups of at most `tokens` tokens, with its number."""
    groups: list[tuple[int, Group]] = []
    with steps(f"prompts for {what}" if what else "", len(impressions), "impressions") as done:
        for number, row in enumerate(impressions):
            prompts, _ = build_prompts(builder, row.reader, row.candidates, limit, row.id)
            groups += [(number, group) for group in group_prompts(prompts, None, None, tokens)]
            done(1)
    return groups


def check_memory(model: Any, batches: Sequence[list[tuple[int, Group]]], batch_tokens: int) -> None:
    """Raise TrainingError where main memory is too short for the largest batch."""
    if not batches or next(model.parameters()).device.type != "cpu":
        return
    need = max(
        scoring_need(
            model, len(batch), len(batch[0][1]), sum(len(group.branches) for _, group in batch)
        )
        for batch in batches
    )
    check_room(need, "scoring", f"lower the tokens of a forward pass ({batch_tokens:,})")


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
    model: Any, batches: Sequence[list[tuple[int, Group]]], task: Task, what: str = ""
) -> list[tuple[list[tuple[int, Group]], list[float], list[float]]]:
    """Each batch with its answers' log-probabilities, from all processes."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    size = torch.distributed.get_world_size() if distributed else 1
    rank = torch.distributed.get_rank() if distributed else 0
    device = next(model.parameters()).device
    model.eval()
    done = []
    # Every process runs equally many batches: a sharded model's forward pass needs them all.
    order = range(rank, -(-len(batches) // size) * size, size)
    total = sum(count_tokens(batches[index % len(batches)]) for index in order)
    with steps(what, total, "tokens") as advance:
        for index in order:
            batch = batches[index % len(batches)]
            arrays = collate([[group] for _, group in batch])
            asked = {name: array for name, array in arrays.items() if name != "labels"}
            tensors = {name: torch.from_numpy(array).to(device) for name, array in asked.items()}
            with torch.no_grad():
                out = model(**tensors, task=task)
            done.append((index, out["log_yes"].tolist(), out["log_no"].tolist()))
            advance(count_tokens(batch))
    if distributed:
        parts: list[Any] = [None] * size
        torch.distributed.all_gather_object(parts, done)
        done = [item for part in parts for item in part]
    return [(batches[index], yes, no) for index, yes, no in done if index < len(batches)]


def count_tokens(batch: Sequence[tuple[int, Group]]) -> int:
    """Without padding."""
    return sum(len(group) for _, group in batch)


@contextmanager
def steps(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """training.progress.progress, or nothing without `what`. Yields what is told of each step."""
    if not what:
        yield lambda _: None
        return
    with progress(what, total, unit) as work:
        yield work.advance


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
