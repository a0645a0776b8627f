"""Tune a sentence encoder on clicks, with an attentive reader encoder over the last titles.

  python -m training tower --data data/mind --encoder models/all-minilm-l6-v2 --output models/news

Learns from the training split of a prepared folder (prepare it with --history-samples, so that
readers' histories are learned from as well): one clicked story against four others. Writes
tower.npz, which `score --tower` uses and which travels with an adapter.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.ranking.options import TowerCommand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--encoder", type=Path, required=True, metavar="DIR", help="a sentence encoder's folder")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    add("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    """Train the tower, and print where it is."""
    options = from_namespace(TowerCommand, given)
    from training.ranking.tower_data import make_tower

    print(f"{make_tower(options)} is ready")
