"""Fold LoRA adapters into their base model, which is then served as fast as the base.

  python -m training merge --base models/smollm2-135m-instruct --adapter models/news-v1 \\
      --output models/news-v1-merged

The arithmetic is float32, each weight is rounded once to the base's own precision, and weights are
read and written one by one. Then 64 prompts are scored with the adapter and with the merged model.
A difference beyond rounding is an error, and nothing is kept. Several --adapter of one base, such
as checkpoints of one run, are averaged; the first one's profile is kept.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.merging.options import MergeOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--base", type=Path, required=True, metavar="DIR", help="the model it was trained on")
    add("--adapter", type=Path, required=True, action="append", metavar="DIR", help="LoRA adapter")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--data", type=Path, metavar="DIR", help="check with its prompts, not with built-in ones")
    add("--no-check", action="store_true", help="don't compare scores (which loads both models)")


def run(given: argparse.Namespace) -> None:
    """Merge, and print how far the merged model's scores are from the adapter's."""
    options = from_namespace(MergeOptions, given)
    from training.merging.merge import merge

    found = merge(options)
    if found is None:
        print(f"{options.output} is ready; its scores were not compared with the adapter's")
    else:
        print(
            f"{options.output} is ready: on {found.prompts} prompts, merged and unmerged log-odds"
            f" differ by at most {found.max_difference:.2g}; the adapter moves them by up to"
            f" {found.adapter_effect:.2g}"
        )
