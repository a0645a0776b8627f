"""Fit a trained model's probabilities to how often readers really click, and store the fit.

  python -m training calibrate models/news-v1 --data data/mind --base models/smollm2-135m-instruct

Scores the validation split's impressions with all candidates as they were shown, fits Platt's slope
and intercept, chooses the threshold from which the label is Yes., and writes all three into the
model's profile.json. finetune does this at its end; run it again for other data, for another
threshold, or for a model made elsewhere.

Thresholds: `balanced` labels best on equally many clicks and non-clicks; `chat` lies where the
model's own likelier answer turns from No. to Yes., so that chat and label agree.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.tuning.options import CalibrateOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("model", type=Path, metavar="DIR", help="a trained adapter or model")
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--base", type=Path, metavar="DIR", help="base of an adapter that does not name its own")
    add("--limit", type=float, metavar="N", help="N impressions, spread over the split (all)")
    add("--threshold", choices=("balanced", "chat"), default="balanced", help="(balanced)")
    add("--batch-tokens", type=int, default=4096, metavar="N", help="of a forward pass (4096)")


def run(given: argparse.Namespace) -> None:
    """Calibrate the model, and print how much that helps."""
    options = from_namespace(CalibrateOptions, given)
    from training.tuning.calibration import recalibrate

    print(recalibrate(options))
