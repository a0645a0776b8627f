"""Float32 logits for the label tokens, inside vLLM's worker process.

A bfloat16 head rounds logits to steps of 0.06 to 0.25, so that different stories tie. Running the
whole head in float32 (`hf_overrides={"head_dtype": "float32"}`) avoids this but costs a third of
the speed on a CPU, and a score needs only two rows of the head. vLLM loads this class into its
worker through its own option `worker_extension_cls`; none of vLLM's code is edited.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Rows:
    """Rows of the head in float32: token ids [n] and weight [n, hidden], on the model's device.

    The ids are a tensor because indexing with a Python list would copy the list to the device in
    each step and wait for all work queued there, so that vLLM could not prepare the next step.
    """

    token_ids: torch.Tensor
    weight: torch.Tensor


class LabelHead:
    """A mixin of vLLM's Worker, called through `AsyncLLM.collective_rpc`."""

    model_runner: Any
    label_rows: Rows

    def answer_ping(self) -> None:
        """Return, between two steps of the engine, which shows that it does not hang."""

    def use_float32_labels(self, token_ids: list[int]) -> bool:
        """Compute the logits of these tokens in float32 from now on; the others stay as they were.

        Returns False and changes nothing if the rows are not available as plain floats (a
        quantized head, or a label in another worker's shard). Scores then keep the model's own
        resolution.
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
    """Wrap `model.compute_logits` so that the columns of `rows` are computed in float32.

    The wrapper takes hidden states [tokens, hidden] and returns float32 logits
    [tokens, vocabulary].
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
