"""The check finds what a merge has lost, in float32 whatever the weights are stored in."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.lora_adapters import make_adapter
from training.errors import TrainingError
from training.merging.check import compare, compute_in_float32, make_impressions


def test_the_check_finds_a_lost_adapter(half: Path, tmp_path: Path) -> None:
    adapter = make_adapter(half, tmp_path / "adapter", std=0.3)
    with pytest.raises(TrainingError, match=r"scores differ by .* not merged"):
        compare(half, [adapter], half, make_impressions(None))


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
