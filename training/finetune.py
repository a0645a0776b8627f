"""Train a base model on a prepared data set. Writes an adapter or a model, with its profile, its
log and a record of the run.

  python -m training finetune configs/lora.yaml --model models/smollm2-135m-instruct \\
      --data data/mind --output models/news-v1 --set learning_rate=1e-4

On several GPUs: torchrun --nproc-per-node 4 -m training finetune …, or, if one GPU can't hold the
model, accelerate launch --config_file configs/fsdp.yaml -m training finetune …

An interrupted run continues from its last checkpoint when it is started again with --resume and the
same options. Probabilities are calibrated at the end, as `python -m training calibrate` does.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.tuning.options import FinetuneOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("config", type=Path, metavar="YAML", help="options, such as configs/lora.yaml")
    add("--model", type=Path, required=True, metavar="DIR", help="the base model")
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write")
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
    from training.tuning.config import read_config
    from training.tuning.run import finetune

    config = read_config(options.config, options.set)
    finetune(config, options.model, options.data, options.output, options.resume)
