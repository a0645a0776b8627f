"""Write a model with weights of 8 bits, which takes half the memory and is faster to serve.

  python -m training quantize --model models/news-v1-merged --to int8 --output models/news-v1-int8

int8 is for CPUs and fp8 for GPUs that compute with it (NVIDIA Ada, Hopper and later). Each row of a
layer's matrices gets a scale of its own, and what goes into them is rounded token by token while
the model is served; embeddings and head stay as they are. The folder is in compressed-tensors'
format and is served like any model. Both models score 64 prompts, or with --data eight stories of
each of 64 readers, and one that differs by more than the limits is not kept. Merge an adapter
before, or serve it unmerged on the result.
"""

import argparse
from functools import partial
from pathlib import Path

from training.arguments import from_namespace
from training.quantizing.options import KINDS, QuantizeOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="base or merged model")
    add("--to", choices=KINDS, required=True, help="of weights and activations")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--data", type=Path, metavar="DIR", help="check with its prompts, not with built-in ones")
    limit = partial(add, type=float, metavar="X")
    limit("--max-difference", default=0.5, help="of log-odds, on average (0.5)")
    limit("--min-order", default=0.7, help="rank correlation of a reader's stories (0.7)")
    limit("--max-mass-loss", default=0.02, help="of the two labels' probability (0.02)")
    add("--no-check", action="store_true", help="don't compare scores (which loads both models)")


def run(given: argparse.Namespace) -> None:
    """Quantize, and print how far the model's scores are from those of the one it was made from."""
    options = from_namespace(QuantizeOptions, given)
    from training.quantizing.quantize import quantize

    found = quantize(options)
    if found is None:
        print(f"{options.output} is ready; its scores were not compared with the model's")
    else:
        print(
            f"{options.output} is ready: on {found.prompts} prompts, log-odds differ by"
            f" {found.mean_difference:.2g} on average and {found.max_difference:.2g} at most; the"
            f" rank correlation of a reader's stories is {found.order:.3f}; the two labels hold"
            f" {found.quantized_mass:.4f} of the probability ({found.mass:.4f} before)"
        )
