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

from training.errors import TrainingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="DIR", help="a trained adapter or model")
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--base", type=Path, metavar="DIR", help="the base model, where DIR is an adapter")
    add("--limit", type=float, metavar="N", help="N impressions, spread over the split (all)")
    add("--threshold", choices=("balanced", "chat"), default="balanced", help="(balanced)")
    add("--batch-tokens", type=int, default=4096, metavar="N", help="of a forward pass (4096)")


def run(options: argparse.Namespace) -> None:
    import torch

    from app.scoring.profile import ProfileError, load_profile
    from app.scoring.prompt import Encoder, PromptBuilder
    from training.dataset import PreparedData
    from training.methods import load_trained
    from training.scorer import score
    from training.validation import fit, spread

    try:
        profile = load_profile(options.model)
    except ProfileError as error:
        raise TrainingError(str(error)) from None
    data = PreparedData(options.data)
    impressions = spread(data, "val", options.limit or data.count("val"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_trained(options.model, options.base, device=device)
    builder = PromptBuilder(Encoder((options.base or options.model) / "tokenizer.json"), profile)
    scores = score(model, builder, impressions, options.batch_tokens)
    found = fit(impressions, scores, options.threshold)
    write_profile(options.model, found.apply(profile).model_dump_json(indent=1))
    print(found)


def write_profile(folder: Path, text: str) -> None:
    """Whole or not at all. Raises TrainingError where the folder can't be written."""
    partial = folder / ".profile.json.partial"
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(folder / "profile.json")
    except OSError as error:
        raise TrainingError(f"can't write {folder}/profile.json: {error.strerror}") from None
