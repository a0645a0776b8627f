"""Draw evaluations as one HTML page, which holds all it needs and opens without a network.

  python -m training report runs/eval --output runs/eval/report.html
  python -m training report runs/eval runs/http

Each folder is one that `evaluate` wrote; several must be of the same impressions. Loss curves come
from trainer_log.jsonl in each model's folder, if there is one. The page shows titles of the data
set: mind the data's licence before passing it on.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.evaluation.options import ReportOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="written by evaluate")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: report.html in the first DIR"
    )


def run(given: argparse.Namespace) -> None:
    """Write the page, and print where it is."""
    options = from_namespace(ReportOptions, given)
    from training.evaluation.page import write_page

    print(f"{write_page(options)} is ready")
