"""Estimate how many clicks a new order would have got on the lists that readers were shown.

  python -m training score --data data/own --model models/news-v2 --from 2026-11-14 \\
      --output runs/v2.parquet
  python -m training estimate --data data/own --scores v2=runs/v2.parquet \\
      --served runs/v1.parquet

Stories shown first are clicked more, so a log's clicks speak for the order that made them. Here
each click is weighed by how much likelier its story is looked at in the new order than it was in
the old one. How likely a place is looked at is estimated from the log, by stories that stood at
several places on one day. Say how the log was ordered:

  --served FILE   by these scores. Only stories with like scores are compared, since a model shows
                  a reader first what this reader will like, and that is no merit of the place.
  --random NAME   at random, wherever the model or alias NAME answered. Only these are compared.
  --same-for-all  without regard to who reads, such as by time or by clicks.

Prints the estimates with 95 % intervals over readers, and writes them as JSON. Ends with an error
where the log says too little about a new order. Only the order of what was shown is judged, not
what a new model would have shown instead.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.evaluation.options import EstimateOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add(
        "--scores",
        action="append",
        required=True,
        metavar="NAME=FILE",
        help="written by score; may be repeated; files of one name are taken together",
    )
    add("--output", type=Path, default=Path("runs/estimate.json"), metavar="FILE")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--served",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="scores that ordered the log, as score writes them; may be repeated",
    )
    how.add_argument("--random", metavar="NAME", help="model or alias whose orders were random")
    how.add_argument("--same-for-all", action="store_true", help="orders ignored who reads")
    add(
        "--shown",
        type=Path,
        default=Path("data/collected/impressions.parquet"),
        metavar="FILE",
        help="for --random: what ordered each list, as collect writes it",
    )
    add(
        "--depth",
        type=int,
        default=20,
        metavar="N",
        help="places told apart, the last for all below (20)",
    )
    add("--any-shape", action="store_true", help="lower places may be looked at more")
    add("--clip", type=float, default=10, metavar="W", help="largest weight of a click (10)")
    add(
        "--least-clicks",
        type=float,
        default=100,
        metavar="N",
        help="effective sample size below which it refuses (100)",
    )
    add("--bootstrap", type=int, default=500, metavar="N", help="resamples of readers (500)")
    add("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    """Estimate, and print the table."""
    options = from_namespace(EstimateOptions, given)
    from training.evaluation.earnings import estimate_earnings

    print("\n".join(estimate_earnings(options).table()))
    print(f"{options.output} is ready")
