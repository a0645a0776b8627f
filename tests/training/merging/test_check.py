"""The check's arithmetic: float32, whatever the weights are stored in."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from training.merging.check import compute_in_float32


def test_computes_in_float32_and_leaves_weights_as_stored(tiny: Path) -> None:
    tokens = torch.arange(100, 140)[None]
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    wide = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16).float()
    with torch.no_grad():
        expected, rounded = wide(tokens).logits, model(tokens).logits.float()
        compute_in_float32(model)
        logits = model(tokens).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert (rounded - expected).abs().max() > 1e-3
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
