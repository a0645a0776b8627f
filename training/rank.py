"""Fit the trees that rank by all that is known: live figures, likeness and the language model.

  python -m training rank --data data/mind --encoder models/all-minilm-l6-v2 \\
      --text runs/text-14.parquet --tower runs/tower-14.parquet --output adapters/news

Replays the log of a prepared folder in the order of time: each impression's features are those of
that moment. --text and --tower name files that `python -m training score` wrote. Their scores must
come from models that have not seen the days which they score, or the trees learn to trust them too
much. Where the language model has scored less than half of the impressions, the trees learn from
the others too. Writes ranker.txt, first_stage.txt (without the language model's score),
ranker.json and ranker-figures.txt into --output, which may be an adapter's folder.

With --test-from, impressions from then on are not learned from, and are measured on: text alone,
click-through alone, the trees with and without text, by what was known of the stories, each with a
95 % interval over impressions. --refit learns from them afterwards.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace, read_time
from training.ranking.options import RankCommand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--encoder", type=Path, metavar="DIR", help="a sentence-transformers folder")
    add("--text", type=Path, action="append", default=[], metavar="FILE", help="may be repeated")
    add("--tower", type=Path, action="append", default=[], metavar="FILE", help="may be repeated")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    add("--test-from", type=read_time, metavar="TIME", help="measure from this time on")
    add(
        "--within",
        type=Path,
        metavar="DIR",
        help="a prepared folder: measure once more on its impressions alone",
    )
    add("--refit", action="store_true", help="learn from the test's impressions too afterwards")
    add(
        "--impressions",
        type=int,
        default=200_000,
        metavar="N",
        help="learn from the newest N (200,000); all are counted",
    )
    add("--half-life-hours", type=float, metavar="H", help="of the live figures (never)")
    add("--dropout", type=float, default=0.2, help="share learned without live figures (0.2)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, metavar="N", help="of LightGBM (1)")


def run(given: argparse.Namespace) -> None:
    """Fit, and print what was measured."""
    options = from_namespace(RankCommand, given)
    from training.ranking.rank import rank

    print(rank(options))
    print(f"{options.output} holds the ranker")
