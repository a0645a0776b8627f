"""Train a base model on a prepared data set: an adapter or a model, with its profile, its log and
a record of the run.

  python -m training finetune configs/lora.yaml --model models/smollm2-135m-instruct \\
      --data data/mind --output models/news-v1 --set learning_rate=1e-4

Several GPUs: torchrun --nproc-per-node 4 -m training finetune …, or, where one GPU can't hold the
model, accelerate launch --config_file configs/fsdp.yaml -m training finetune …

A run that was stopped goes on from its last checkpoint with --resume and the same options.
Probabilities are calibrated at the end, as by `python -m training calibrate`.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
        help="an option over the file's, again and again; trainer.NAME and peft.NAME reach inside",
    )
    add("--resume", action="store_true", help="go on from the last checkpoint in --output")


def run(options: argparse.Namespace) -> None:
    from training.tuning.config import read_config
    from training.tuning.run import finetune

    config = read_config(options.config, options.set)
    finetune(config, options.model, options.data, options.output, options.resume)
