"""Float32 logits for the label tokens, inside vLLM's worker process.

A bfloat16 head rounds logits to steps of 0.06 to 0.25, so different stories tie. Running the whole
head in float32 (`hf_overrides={"head_dtype": "float32"}`) cures that but costs a third of the speed
on a CPU; two rows of it are all that a score needs. vLLM loads this class into its worker through
its own option `worker_extension_cls`; nothing of vLLM is replaced for good or edited.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Rows:
    """Of the head, in float32: token ids [n], weight [n, hidden], both where the model is.

    Indexing with a list of Python's would copy it to the device in each step, and wait for all
    that the device has been given until then: vLLM could not prepare the next step meanwhile.
    """

    token_ids: torch.Tensor
    weight: torch.Tensor


class LabelHead:
    """Mixed into vLLM's Worker; called through `AsyncLLM.collective_rpc`."""

    model_runner: Any
    label_rows: Rows

    def use_float32_labels(self, token_ids: list[int]) -> bool:
        """From now on give the logits of these tokens in float32, beside the others as they were.

        Returns False, changing nothing, where the rows are not there as plain numbers (a quantized
        head, or a label in another worker's shard); scores then have the model's own resolution.
        """
        model = self.model_runner.get_model()
        head = getattr(model, "lm_head", None)
        head = getattr(head, "base_layer", head)
        weight = getattr(head, "weight", None)
        if weight is None or not weight.is_floating_point() or weight.element_size() < 2:
            return False
        if max(token_ids) >= weight.shape[0]:
            return False
        if not hasattr(self, "label_rows"):
            self.label_rows = Rows(torch.empty(0, dtype=torch.long), torch.empty(0))
            model.compute_logits = with_float32_labels(model, self.label_rows)
        known = self.label_rows.token_ids.tolist()
        ids = torch.tensor(sorted({*known, *token_ids}), device=weight.device)
        self.label_rows.token_ids, self.label_rows.weight = ids, weight[ids].detach().float()
        return True


def with_float32_labels(model: Any, rows: Rows) -> Callable[..., torch.Tensor | None]:
    """`model.compute_logits`, with the columns of `rows` computed exactly.

    hidden_states: [tokens, hidden]; returns float32 logits [tokens, vocabulary].
    """
    compute_logits = model.compute_logits
    processor = getattr(model.logits_processor, "base_layer", model.logits_processor)

    def compute(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor | None:
        logits: torch.Tensor | None = compute_logits(hidden_states, *args, **kwargs)
        if logits is None:
            return None
        logits = logits.float()
        labels = hidden_states.float() @ rows.weight.T
        if processor.soft_cap is not None:
            labels = torch.tanh(labels / processor.soft_cap) * processor.soft_cap
        return logits.index_copy_(1, rows.token_ids, labels * processor.scale)

    return compute
