"""Measure models on the impressions of a prepared set, and compare the others with the first.

  python -m training evaluate --data data/mind --split val --output runs/eval \\
      --model base=models/smollm2-135m-instruct --model news-v1=models/news-v1
  python -m training evaluate --data data/mind --output runs/http --backend http \\
      --url http://127.0.0.1:8000 --model news-v1=models/news-v1

Writes evaluation.json, from which `report` draws a page: AUC, MRR and nDCG by impression, accuracy
on balanced pairs (by label and by parsed text), log-loss and the share of Unknown, each with a 95 %
interval over impressions; expected calibration error over 15 equal-mass bins; curves and the worst
errors; speed by batch size. Where a model's folder holds a ranker and --data has log.parquet, also
how well the ranker orders the same impressions, unless it may have learned from them. The file
holds titles of the data set: mind the data's licence before passing it on.

A model is the folder of a base or merged model, or of an adapter. Backends: `transformers` runs
every method; `vllm` runs base and merged models and LoRA adapters; `http` asks a running service,
where NAME is the service's name for the model and FOLDER, which may be left out, tells how its chat
prompt is worded. The service's key is taken from OPENAI_API_KEY.
"""

import argparse
from pathlib import Path

from training.arguments import from_namespace
from training.evaluation.options import EvaluateOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--split", default="val", help="default: val")
    add("--limit", type=int, metavar="N", help="only N impressions, spread evenly over the split")
    add(
        "--model",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="may be repeated; the other models are compared with the first",
    )
    add("--base", type=Path, metavar="FOLDER", help="base of adapters that do not name theirs")
    add("--encoder", type=Path, metavar="DIR", help="sentence encoder of rankers (models/NAME)")
    add("--output", type=Path, default=Path("runs/eval"), metavar="DIR", help="default: runs/eval")
    add("--backend", choices=["transformers", "vllm", "http"], default="transformers")
    add("--seed", type=int, default=0, help="of pairs and intervals (0)")
    add("--bootstrap", type=int, default=1000, metavar="N", help="resamples (1000)")
    add(
        "--text-pairs",
        type=int,
        default=200,
        metavar="N",
        help="pairs that are also asked for in text (200); 0 for none",
    )
    add(
        "--speed-seconds",
        type=float,
        default=5,
        metavar="S",
        help="duration of each timing (5); 0 for none",
    )
    add("--sizes", type=int, nargs="+", default=[1, 8, 16, 32], metavar="N", help="batch sizes")
    add_backend_arguments(parser.add_argument_group("for one backend"))


def add_backend_arguments(own: argparse._ArgumentGroup) -> None:
    """Add the arguments that only one backend takes."""
    own.add_argument("--dtype", default="auto", help="transformers: of the weights (auto)")
    own.add_argument(
        "--batch-tokens", type=int, default=4096, help="transformers: of a forward pass (4096)"
    )
    own.add_argument("--engine", default="{}", metavar="JSON", help="vllm: its own options")
    own.add_argument("--url", default="http://127.0.0.1:8000", help="http: the service")
    own.add_argument("--concurrency", type=int, default=8, help="http: calls at once (8)")


def run(given: argparse.Namespace) -> None:
    """Measure the models, and print a line for each."""
    options = from_namespace(EvaluateOptions, given)
    from training.evaluation.evaluate import evaluate
    from training.evaluation.record import RESULT_FILE

    for measured in evaluate(options):
        print(measured.summary())
    output = options.output
    print(f"{output / RESULT_FILE} is ready; python -m training report {output}")
