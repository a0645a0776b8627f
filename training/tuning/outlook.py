"""What a run on a CPU will take, time and memory, from one short measured step before it begins."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import psutil
import torch
from torch import Tensor

from app.engine.memory import free_memory
from training.data.prepared import Impression, PreparedData
from training.memory import GB, check_room
from training.packed.prompts import build_prompts
from training.packed.rows import Group, group_prompts
from training.progress import describe_duration, is_first_process, progress
from training.tuning import methods
from training.tuning.trainer import AnswerTrainer

SCORED_SHARE = 0.4
"""The time of a token that is only scored, in that of one that is trained on."""
SAMPLED_IMPRESSIONS = 8
"""From so many, how many tokens the others have."""
OVERHEAD = 1.4
WIDEST_LAYERS = 16
HEAD_COPIES = 7
"""Fitted to runs whose peak was measured (docs/training.md): what a step takes over what it keeps
for the way back, of how many layers the widest states are held besides, and of the logits how many
copies. They hold what the allocator does not give back, too."""
REMEDY = (
    "lower per_device_train_batch_size or row_tokens, set gradient_checkpointing: true, or take"
    " configs/cpu.yaml's options (bf16: auto)"
)


@dataclass(frozen=True, slots=True)
class Step:
    """A measured step on one group. length: its tokens. saved: bytes kept for the way back that
    grow with the length. masks: those that grow with its square. before: bytes of the process
    before the step. held: those that it still held after it, which later steps use again."""

    length: int
    seconds: float
    saved: int
    masks: int
    before: int
    held: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """Seconds, and bytes: of the process at its peak, and how many of them are still to come."""

    training_s: float
    validation_s: float
    calibration_s: float
    peak: int
    more: int

    def __str__(self) -> str:
        parts = {
            "training": self.training_s,
            "validation": self.validation_s,
            "calibration": self.calibration_s,
        }
        named = [f"{name} {describe_duration(s)}" for name, s in parts.items() if s]
        return (
            f"estimate from one short step: {', '.join(named)}; about {self.peak / GB:.1f} GB of"
            f" memory at the peak, {self.more / GB:.1f} GB more than now;"
            f" {free_memory() / GB:.1f} GB are free"
        )


def check_outlook(trainer: AnswerTrainer, data: PreparedData) -> None:
    """Say what the run will take, if it is on a CPU and not sharded. Raises TrainingError where
    main memory is too short."""
    arguments = trainer.args
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if arguments.device.type != "cpu" or sharded:
        return
    groups = sorted((group for row in trainer.rows for group in row), key=len)
    with progress("measuring a short step"):
        step = measure_step(trainer, groups[len(groups) // 4])
    found = foresee(trainer, data, step)
    if is_first_process():
        print(found, flush=True)
    processes = arguments.world_size
    check_room(found.more * processes, "training", REMEDY)


def measure_step(trainer: AnswerTrainer, group: Group) -> Step:
    """Forwards and back once, which changes neither weights nor random numbers to come."""
    model: Any = trainer.model
    arguments = trainer.args
    rows: list[Any] = [[group]]
    batch: dict[str, Any] = trainer.data_collator(rows)
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, tuple[int, bool]] = {}
    length = batch["input_ids"].shape[1]

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.device.type == "cpu" and storage.data_ptr() not in known:
            is_mask = tensor.shape[-2:] == (length, length)
            sizes[storage.data_ptr()] = (storage.nbytes(), is_mask)
        return tensor

    if arguments.gradient_checkpointing:
        kwargs = arguments.gradient_checkpointing_kwargs
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
    model.train()
    process = psutil.Process()
    before = process.memory_info().rss
    started = time.perf_counter()
    with (
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16),
    ):
        loss = model(**batch, task=trainer.task)["loss"]
    loss.backward()
    model.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - started
    masks = sum(size for size, is_mask in sizes.values() if is_mask)
    saved = sum(size for size, _ in sizes.values()) - masks
    held = max(process.memory_info().rss - before, 0)
    return Step(length, seconds, saved, masks, before, held)


def foresee(trainer: AnswerTrainer, data: PreparedData, step: Step) -> Outlook:
    """The run's time and memory. Attention's time grows with the square of a row's length, which
    the estimate leaves out."""
    config, arguments = trainer.config, trainer.args
    a_token = step.seconds / step.length
    batches = ceil(len(trainer.rows) / arguments.train_batch_size / arguments.world_size)
    updates = max(batches // arguments.gradient_accumulation_steps, 1)
    epochs = arguments.num_train_epochs
    if arguments.max_steps > 0:
        epochs = arguments.max_steps / updates
    tokens = sum(len(group) for row in trainer.rows for group in row) / arguments.world_size
    every = arguments.eval_steps or 1.0
    times = 1 / every if every < 1 else updates * epochs / every
    a_scored = a_token * SCORED_SHARE / arguments.world_size
    validated = count_tokens(trainer, trainer.validation) * int(times)
    wanted = config.calibration_impressions
    wanted = data.count("val") if wanted is None else wanted
    sample = data.sample_evenly("val", min(wanted, SAMPLED_IMPRESSIONS)) if wanted else []
    calibrated = count_tokens(trainer, sample) / max(len(sample), 1) * wanted
    peak, more = foresee_memory(trainer, step)
    return Outlook(
        tokens * epochs * a_token, validated * a_scored, calibrated * a_scored, peak, more
    )


def count_tokens(trainer: AnswerTrainer, impressions: Sequence[Impression]) -> float:
    """How many tokens scoring takes, from those of a few of the impressions."""
    few = impressions[:: max(len(impressions) // SAMPLED_IMPRESSIONS, 1)]
    total = 0
    for row in few:
        limit = trainer.config.cutoff_len
        prompts, _ = build_prompts(trainer.builder, row.reader, row.candidates, limit, row.id)
        tokens = trainer.config.row_tokens * trainer.args.per_device_eval_batch_size
        total += sum(map(len, group_prompts(prompts, None, None, tokens)))
    return total / max(len(few), 1) * len(impressions)


def foresee_memory(trainer: AnswerTrainer, step: Step) -> tuple[int, int]:
    """Bytes of the process at its peak, and how many more than now. What is kept for the way back
    comes from the measured step; gradients, optimizer and what the widest places need for a moment
    are computed."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    shape, rows = model.config, trainer.args.train_batch_size
    longest = max(sum(map(len, row)) for row in trainer.rows)
    answers = rows * max(count_answers(row) for row in trainer.rows)
    tokens = rows * longest
    kept = step.saved * tokens / step.length + step.masks * rows * (longest / step.length) ** 2
    if trainer.args.gradient_checkpointing:
        kept += tokens * shape.num_hidden_layers * shape.hidden_size * 4
    inner = getattr(shape, "intermediate_size", shape.hidden_size)
    size = 2 if trainer.args.bf16 else 4
    widest = tokens * size * (4 * inner + 6 * shape.hidden_size) * WIDEST_LAYERS
    head = answers * shape.vocab_size * 4 * HEAD_COPIES
    learned = sum(p.numel() * (p.element_size() + 8) for p in methods.trainable(model).values())
    more = int(kept * OVERHEAD + widest + head + learned)
    return step.before + more, more - step.held


def count_answers(row: Sequence[Group]) -> int:
    """Tokens of a row's answers."""
    return sum(len(branch.answer) for group in row for branch in group.branches)
