"""Write an adapter that turns a merged model back into its base.

  python -m training undo --adapter models/news-v1 --output models/news-v1-undone

Served on the merged model, beside it, it answers as the base does, so that both can be compared on
one engine. The merged model keeps its speed, and only who asks for the base pays for an adapter.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.merging.options import UndoOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--adapter", type=Path, required=True, metavar="DIR", help="the adapter that was merged")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write")


def run(given: argparse.Namespace) -> None:
    """Write the adapter."""
    options = from_namespace(UndoOptions, given)
    from training.merging.undo import undo

    undo(options)
    print(f"{options.output} is ready: on the merged model it is the base")
