"""Let a language model or a tower score impressions of a log, for `rank` to learn from.

  python -m training score --data data/mind --model models/until-13 --from 2019-11-14 \\
      --output runs/text-14.parquet
  python -m training score --data data/mind --tower models/until-13 \\
      --encoder models/all-minilm-l6-v2 --from 2019-11-14 --output runs/tower-14.parquet

The model must not have seen the days that it scores: prepare and train once for each day that
`rank` is to learn from, on the days before it.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace, read_time
from training.ranking.options import ScoreCommand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, metavar="DIR", help="a trained adapter or model")
    what.add_argument("--tower", type=Path, metavar="DIR", help="folder with tower.npz")
    add("--base", type=Path, metavar="DIR", help="base of an adapter that does not name its own")
    add("--encoder", type=Path, metavar="DIR", help="the tower's sentence encoder")
    add("--from", dest="start", type=read_time, metavar="TIME", help="default: the first")
    add("--until", dest="end", type=read_time, metavar="TIME", help="before this time")
    add("--limit", type=int, metavar="N", help="only N impressions, spread evenly over these (all)")
    add("--output", type=Path, required=True, metavar="FILE", help="a parquet file")
    add("--batch-tokens", type=int, default=4096, metavar="N", help="of a forward pass (4096)")


def run(given: argparse.Namespace) -> None:
    """Score, and print how many impressions."""
    options = from_namespace(ScoreCommand, given)
    from training.ranking.score import score_log

    print(f"{score_log(options):,} impressions are scored in {options.output}")
