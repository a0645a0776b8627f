"""A Qwen3 of two narrow layers with a vocabulary of the fixture's words, and runs of `finetune`."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen3Config, Qwen3ForCausalLM

from app.scoring.encoder import Encoder
from app.scoring.profile import COMPACT, ORIGINAL
from app.scoring.prompt import PromptBuilder
from tests.support.models import MIND
from training.__main__ import main
from training.tuning.config import FinetuneConfig

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FAST = {
    "row_tokens": 512,
    "cutoff_len": 512,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "eval_steps": 0.5,
    "save_steps": 0.5,
    "plot_loss": False,
    "calibration_impressions": 0,
    "val_size": 6,
}
"""Options for a run of about a second; it evaluates and saves half-way and at its end."""


def make_tiny(folder: Path, seed: int = 0, hidden: int = 64, heads: int = 4) -> Path:
    """heads: 2 are wide enough for vLLM on a CPU, which takes no head of less than 32."""
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    shape = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=64 // heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        initializer_range=0.1,
    )
    Qwen3ForCausalLM(shape).save_pretrained(folder)
    return folder


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    news = (MIND / "train" / "news.tsv").read_text(encoding="utf-8")
    words = [COMPACT.model_dump_json(), ORIGINAL.model_dump_json(), *["Yes. No."] * 50]
    tokenizer.train_from_iterator([news, *words], trainer)
    return tokenizer


def arguments(model: Path, data: Path, output: Path, **options: Any) -> list[str]:
    """The command line of a run, its options in a file beside the output."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(FAST | options))
    places = {"--model": model, "--data": data, "--output": output}
    return ["finetune", str(file), *(str(part) for pair in places.items() for part in pair)]


def finetune(model: Path, data: Path, output: Path, **options: Any) -> list[dict[str, Any]]:
    """Run the command; returns its log."""
    assert main(arguments(model, data, output, **options)) == 0
    return read_log(output)


def read_log(output: Path) -> list[dict[str, Any]]:
    text = (output / "trainer_log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def losses(log: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in log if "loss" in line]


def make_builder(model: Path) -> PromptBuilder:
    """As a run with FAST options builds prompts."""
    return PromptBuilder(Encoder(model / "tokenizer.json"), FinetuneConfig().profile())
