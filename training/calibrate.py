"""Fit a trained model's probabilities to how often readers really click, and write them down.

  python -m training calibrate models/news-v1 --data data/mind --base models/smollm2-135m-instruct

Scores the validation split's impressions with all candidates as they were shown, fits Platt's slope
and intercept, chooses the threshold of Yes., and puts them into the model's profile.json. finetune
does this at its end; run it again for other data, another threshold, or a model made elsewhere.

Thresholds: `balanced` is best on equally many clicks and others; `chat` is where the model's own
likelier answer turns from No. to Yes., so that chat and scores say the same.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="DIR", help="a trained adapter or model")
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--base", type=Path, metavar="DIR", help="base of an adapter that does not name its own")
    add("--limit", type=float, metavar="N", help="N impressions, spread over the split (all)")
    add("--threshold", choices=("balanced", "chat"), default="balanced", help="(balanced)")
    add("--batch-tokens", type=int, default=4096, metavar="N", help="of a forward pass (4096)")


def run(options: argparse.Namespace) -> None:
    from app.scoring.profile import PROFILE_FILE
    from training.data.prepared import PreparedData
    from training.evaluation.backends.base import find_source
    from training.folders import write_whole
    from training.packed.scorer import score
    from training.tuning.methods import best_device, load_trained
    from training.tuning.validation import fit, spread

    source = find_source(options.model, options.base)
    data = PreparedData(options.data)
    impressions = spread(data, "val", options.limit or data.count("val"))
    model = load_trained(options.model, source.base, device=best_device())
    scores = score(model, source.builder(), impressions, options.batch_tokens)
    found = fit(impressions, scores, options.threshold)
    profile = found.apply(source.profile).model_dump_json(indent=1)
    write_whole(options.model / PROFILE_FILE, profile + "\n")
    print(found)
