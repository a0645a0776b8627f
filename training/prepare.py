"""Turn MIND's files into samples to learn from and impressions to measure on.

  python -m training prepare --train MIND/train --out data/mind
  python -m training prepare --train MIND/train --val MIND/dev --test MIND/test
  python -m training prepare --train MIND/train --recipe original --out data/original

Each folder holds MIND's news.tsv and behaviors.tsv. Recipes:

  temporal  What is known of a reader comes from earlier impressions only. All clicks and some
            sampled non-clicks of an impression in train, natural candidates in val and test.
  original  The original project's sampling, to compare with: the last story shown is the target,
            liked and disliked are its neighbours (which leaks: their labels aren't known when
            serving); balanced, one sample an impression.

Everything goes into parquet files. The same as text, for LLaMA-Factory and TRL, is whole with
`original`; with `temporal` it is a sample of --text-samples pairs, because all pairs of MIND-large
would be tens of gigabytes. Faulty rows are listed in dropped.jsonl.
"""

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.scoring.profile import LAYOUTS
from training.errors import TrainingError
from training.progress import say

if TYPE_CHECKING:
    import polars as pl

    from training.data.mind import FileReport

SPLITS = ("train", "val", "test")
TEMPORAL_DEFAULTS: dict[str, Any] = {
    "negatives": 4,
    "history_samples": 0,
    "history": 50,
    "liked": 20,
    "disliked": 20,
    "layout": "compact",
    "text_history": 20,
    "text_samples": 200_000,
}
NEEDS = {
    "temporal": "one without a click teaches nothing",
    "original": "to balance them, some must end with a clicked story and some with another",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--train", type=Path, required=True, metavar="DIR", help="MIND folder to learn from")
    split = parser.add_mutually_exclusive_group()
    split.add_argument("--val", type=Path, metavar="DIR", help="MIND folder to validate on")
    split.add_argument(
        "--val-from", metavar="TIME", help="without --val: the part of --train from this time on"
    )
    split.add_argument(
        "--val-days", type=int, default=1, metavar="N", help="without --val: its last N days (1)"
    )
    add("--test", type=Path, metavar="DIR", help="MIND folder to test on; may be without labels")
    add("--out", type=Path, default=Path("data/mind"), metavar="DIR", help="default: data/mind")
    add("--recipe", choices=["temporal", "original"], default="temporal")
    add("--seed", type=int, default=0, help="the same seed gives the same bytes")
    add(
        "--max-bad-share",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="stop if more of a file's rows are faulty (0.01)",
    )
    temporal = parser.add_argument_group("with the temporal recipe")
    for name, text in (
        ("negatives", "sampled non-clicks for each click in train"),
        ("history_samples", "clicks of each reader's history to learn from as well"),
        ("history", "last clicked stories kept"),
        ("liked", "stories kept that were clicked in earlier impressions"),
        ("disliked", "stories kept that were passed over in earlier impressions"),
        ("text_history", "stories of the history in the text files"),
        ("text_samples", "pairs in each text file, whole impressions; 0 none, -1 all"),
    ):
        flag = f"--{name.replace('_', '-')}"
        text = f"{text} ({TEMPORAL_DEFAULTS[name]})"
        temporal.add_argument(flag, type=int, metavar="N", help=text)
    temporal.add_argument("--layout", choices=list(LAYOUTS), help="of the text files (compact)")


def run(options: argparse.Namespace) -> None:
    settings = check_options(options)
    from training.data.manifest import summary
    from training.data.prepared import MANIFEST
    from training.folders import replaced_folder

    with replaced_folder(options.out, MANIFEST) as folder:
        manifest = prepare(options, settings, folder)
    print(summary(manifest, options.out))
    print(
        "next: python -m training finetune configs/lora.yaml --model models/smollm2-135m-instruct"
        f" --data {options.out} --output models/news-v1"
    )


def check_options(options: argparse.Namespace) -> dict[str, Any]:
    """The recipe's own options with their defaults; raises TrainingError for what can't be."""
    given = {name: getattr(options, name) for name in TEMPORAL_DEFAULTS}
    given = {name: value for name, value in given.items() if value is not None}
    if options.recipe == "original" and given:
        flag = next(iter(given)).replace("_", "-")
        raise TrainingError(f"--{flag} belongs to --recipe temporal: leave it out")
    lowest = {"negatives": 1, "text_samples": -1, "val_days": 1, "layout": None}
    for name, value in {**given, "val_days": options.val_days, "seed": options.seed}.items():
        least = lowest.get(name, 0)
        if least is not None and value < least:
            raise TrainingError(f"--{name.replace('_', '-')} {value}: give {least} or more")
    if not 0 <= options.max_bad_share <= 1:
        raise TrainingError(f"--max-bad-share {options.max_bad_share}: give a share from 0 to 1")
    return {} if options.recipe == "original" else {**TEMPORAL_DEFAULTS, **given}


def prepare(options: argparse.Namespace, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fill `folder`; returns its manifest."""
    from training.data import manifest, texts

    news, impressions, reports = read_folders(options, settings)
    news.write_parquet(folder / "news.parquet")
    read = {name: len(rows) for name, rows in impressions.items()}
    counts = {}
    for name, rows in sample(impressions, options, settings).items():
        if rows.is_empty():
            raise TrainingError(
                f"of {read[name]:,} impressions of {name} none can be used: {NEEDS[options.recipe]}"
            )
        say(f"writing {len(rows):,} impressions of {name}")
        rows.write_parquet(folder / f"{name}.parquet")
        lines = texts.write_split(folder / f"{name}.jsonl", rows, news, options.seed, settings)
        counts[name] = {"read": read[name], **manifest.count_split(rows, lines)}
    texts.write_register(folder)
    manifest.write_faults(folder / manifest.DROPPED, reports)
    known = {
        "recipe": options.recipe,
        "seed": options.seed,
        "options": settings,
        "stories": len(news),
        "splits": counts,
        "rows": {report.name: manifest.count_rows(report) for report in reports},
    }
    return manifest.write_manifest(folder, known)


def read_folders(
    options: argparse.Namespace, settings: dict[str, Any]
) -> tuple["pl.DataFrame", dict[str, "pl.DataFrame"], list["FileReport"]]:
    """(news, impressions by split, a report of each file)."""
    from training.data.mind import StoryIds, merge_news, read_behaviors, read_news
    from training.data.samples import ORIGINAL_LIST, split_by_time

    folders = {name: getattr(options, name) for name in SPLITS if getattr(options, name)}
    share = options.max_bad_share
    read = [read_news(path, f"{name}/news.tsv", share) for name, path in folders.items()]
    reports = [report for _, report in read]
    news = merge_news([stories for stories, _ in read])
    say(f"read {len(news):,} stories")
    ids = StoryIds(news["id"])
    history = settings.get("history", ORIGINAL_LIST)
    impressions = {}
    for name, path in folders.items():
        rows, report = read_behaviors(path, f"{name}/behaviors.tsv", ids, history, share)
        say(f"read {len(rows):,} impressions of {path}")
        if name != "test" and not rows["labelled"].all():
            raise TrainingError(f"{path}/behaviors.tsv has no labels: give it as --test")
        impressions[name] = rows
        reports.append(report)
    if "val" not in impressions:
        start = read_time(options.val_from)
        early, late = split_by_time(impressions["train"], start, options.val_days)
        impressions = {**impressions, "train": early, "val": late}
    return news, {name: impressions[name] for name in SPLITS if name in impressions}, reports


def read_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo:  # MIND's times have no zone
        raise TrainingError(f"--val-from {text}: write 2019-11-14 or 2019-11-14T12:00")
    return moment


def sample(
    impressions: dict[str, "pl.DataFrame"], options: argparse.Namespace, settings: dict[str, Any]
) -> dict[str, "pl.DataFrame"]:
    """The recipe's rows by split. Empties `impressions`, which is large, as it goes on."""
    import polars as pl

    from training.data.samples import sample_original, sample_temporal

    say(f"sampling by the {options.recipe} recipe")
    names = list(impressions)
    if options.recipe == "original":
        return {name: sample_original(impressions.pop(name), options.seed) for name in names}
    rows = pl.concat(impressions.pop(name).with_columns(split=pl.lit(name)) for name in names)
    numbers = {
        name: settings[name] for name in ("liked", "disliked", "negatives", "history_samples")
    }
    splits = sample_temporal(rows, **numbers, seed=options.seed)
    return {name: splits[name] for name in names if name in splits}
