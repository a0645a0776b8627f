"""What a model is asked on packed rows, and its loss. Logits are computed at answers only.

`accept_packed_rows` gives a causal language model's forward another form, `model(**batch, task=…)`,
for batches of training.packed.rows.collate. The call goes through whatever wraps the model (PEFT,
DDP, FSDP), so training and scoring are the same computation.
"""

import functools
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PreTrainedModel

from training.errors import TrainingError
from training.packed.rows import UNKNOWN

SCALED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Settings of models that change their head's logits, which the objective does not do."""


@dataclass(frozen=True, slots=True)
class Task:
    """yes, no: the labels' tokens. The other fields are for training only.

    The objective "sft" is the mean cross-entropy of the answers' tokens. "label" is the binary
    cross-entropy of the difference between the two labels' logits, plus mass_weight times the loss
    of "sft", which keeps the labels likely among all tokens and teaches the rest of the answer. A
    clicked candidate counts click_weight times. answer_length: tokens of an answer.
    """

    yes: int
    no: int
    objective: str = "sft"
    mass_weight: float = 0.0
    click_weight: float = 1.0
    answer_length: int = 1


def accept_packed_rows(model: PreTrainedModel) -> None:
    """Let `model` take packed rows as well. Called without `task`, it does what it did before.

    Raises TrainingError for a model that changes its head's logits afterwards.
    """
    if getattr(model, "takes_packed_rows", False):
        return
    for name in SCALED_LOGITS:
        if getattr(model.config, name, None) not in (None, 1.0):
            raise TrainingError(f"{model.config.model_type} models set {name}: not supported here")
    plain = model.forward

    # The signature that generate() looks at stays the model's own.
    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, task: Task | None = None, **kwargs: Any) -> Any:
        if task is None:
            return plain(*args, **kwargs)
        return answer(self, task, *args, **kwargs)

    model.forward = MethodType(forward, model)
    model.takes_packed_rows = True  # type: ignore[assignment]
    # For Trainer, which can't tell from the signature: the loss is divided by num_items_in_batch.
    model.accepts_loss_kwargs = True  # type: ignore[assignment]


def answer(
    model: PreTrainedModel,
    task: Task,
    input_ids: Tensor,
    positions: Tensor,
    group: Tensor,
    branch: Tensor,
    answers: Tensor,
    clicked: Tensor,
    labels: Tensor | None = None,
    past_key_values: Any = None,
    num_items_in_batch: Tensor | int | None = None,
    **_: Any,
) -> dict[str, Tensor]:
    """Run a batch of training.packed.rows.collate. past_key_values: a learned prefix.

    With labels, returns their loss, divided by num_items_in_batch (without it, by the number of
    labels). Without labels, returns the natural log-probabilities of the two labels, each float32
    [answers]. Nothing here waits for a GPU, so that its queue stays full.
    """
    past = past_key_values.get_seq_length() if past_key_values is not None else 0
    hidden = model.get_decoder()(
        input_ids=input_ids,
        attention_mask=attention_mask(group, branch, past, model.config._attn_implementation),
        position_ids=positions + past,
        past_key_values=past_key_values,
        use_cache=False,
    ).last_hidden_state
    hidden = hidden.flatten(0, 1)[answers]
    logits, both = answer_logits(hidden, model.get_output_embeddings(), task)
    if labels is None:
        log_likelihood = both - logits.logsumexp(-1, keepdim=True)
        return {"log_yes": log_likelihood[:, 0], "log_no": log_likelihood[:, 1]}
    difference = both[:, 0] - both[:, 1]
    loss = summed_loss(logits, difference, labels, clicked, task)
    return {"loss": loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)}


def attention_mask(
    group: Tensor, branch: Tensor, past: int, implementation: str | None
) -> Tensor | BlockMask:
    """Which keys a query sees, [rows, 1, length, past + length]: all of a learned prefix, and those
    up to itself in its own group that belong to the group's prefix or to the same branch."""

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (key - past).clamp(min=0)
        near = (branch[row, own] == 0) | (branch[row, own] == branch[row, query])
        same = (group[row, query] == group[row, own]) & near
        return (key < past) | ((query >= key - past) & same)

    rows, length = group.shape
    if implementation == "flex_attention":
        return create_block_mask(sees, rows, None, length, past + length, str(group.device))
    if implementation != "sdpa":
        raise ValueError(f"packed rows need sdpa or flex_attention, not {implementation}")
    row, query, key = (torch.arange(n, device=group.device) for n in (rows, length, past + length))
    return sees(row[:, None, None], row, query[None, :, None], key[None, None, :])[:, None]


def answer_logits(hidden: Tensor, head: Any, task: Task) -> tuple[Tensor, Tensor]:
    """hidden: [answers, hidden]. Returns float32 logits [answers, vocabulary], and those of yes and
    no by themselves, [answers, 2].

    The two labels' logits are computed in float32: a bfloat16 head rounds to steps of up to 0.25,
    and different stories would tie. A head with quantized weights gives them as it can.
    """
    logits: Tensor = head(hidden).float()
    if not head.weight.is_floating_point():
        return logits, torch.stack([logits[:, task.yes], logits[:, task.no]], dim=1)
    rows = torch.stack([head.weight[task.yes], head.weight[task.no]])
    with torch.autocast(hidden.device.type, enabled=False):
        both = F.linear(hidden.float(), rows.float())
    labels = torch.full((2,), task.yes, device=hidden.device)
    labels[1:] = task.no
    return logits.index_copy(1, labels, both), both


def summed_loss(
    logits: Tensor, difference: Tensor, labels: Tensor, clicked: Tensor, task: Task
) -> Tensor:
    """The sum of all answer tokens' losses. logits: [answers, vocabulary]; the rest: [answers]."""
    weights = torch.where(clicked == 1, task.click_weight, 1.0)
    sft = (F.cross_entropy(logits, labels, reduction="none") * weights).sum()
    if task.objective == "sft":
        return sft
    begins = weights * (clicked != UNKNOWN)
    binary = F.binary_cross_entropy_with_logits(
        difference, (clicked == 1).to(difference.dtype), begins, reduction="sum"
    )
    # Sums are divided by the number of answer tokens; a binary loss stands for a whole answer.
    return binary * task.answer_length + task.mass_weight * sft
