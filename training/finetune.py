"""Train a base model on a prepared data set. Writes an adapter or a model, with its profile, its
log and a record of the run.

  python -m training finetune configs/lora.yaml --model models/smollm2-135m-instruct \\
      --data data/mind --output models/news-v1 --set learning_rate=1e-4

Without a GPU, use configs/cpu.yaml, which is for two cores.

On several GPUs: torchrun --nproc-per-node 4 -m training finetune …, or, if one GPU can't hold the
model, accelerate launch --config_file configs/fsdp.yaml -m training finetune …

A file for LLaMA-Factory works too: its model_name_or_path, dataset_dir and output_dir stand for
--model, --data and --output.

An interrupted run continues from its last checkpoint when it is started again with --resume and the
same options. Probabilities are calibrated at the end, as `python -m training calibrate` does.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.progress import is_first_process, say
from training.tuning.options import PLACES, FinetuneOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("config", type=Path, metavar="YAML", help="options, such as configs/lora.yaml")
    add("--model", type=Path, metavar="DIR", help="the base model")
    add("--data", type=Path, metavar="DIR", help="folder written by prepare")
    add("--output", type=Path, metavar="DIR", help="folder to write")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override an option of the file; may be repeated; trainer.NAME and peft.NAME reach"
        " inside",
    )
    add("--resume", action="store_true", help="continue from the last checkpoint in --output")


def run(given: argparse.Namespace) -> None:
    """Train, and print progress while it lasts."""
    options = from_namespace(FinetuneOptions, given)
    from training.tuning.config import make_config, read_options
    from training.tuning.run import finetune

    found = read_options(options.config, options.set)
    config = make_config(options.config, found.options)
    base, data, output = (options.place(name, found.places) for name in PLACES)
    if found.ignored and is_first_process():
        say(f"{options.config}: ignored, for here it has no meaning: {', '.join(found.ignored)}")
    finetune(config, base, data, output, options.resume)
