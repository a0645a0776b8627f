"""Turn click logs into samples to learn from and impressions to measure on.

  python -m training prepare --train MIND/train --out data/mind
  python -m training prepare --train MIND/train --val MIND/dev --test MIND/test
  python -m training prepare --train MIND/train --recipe original --out data/original
  python -m training prepare --train shop --log shop.yaml --describe

Each folder holds MIND's news.tsv and behaviors.tsv, or a site's own log in CSV, JSONL or Parquet. A
mapping says what the columns of such a log are: --log names it, or it is the folder's own log.yaml
(docs/your-own-data.md). --describe prints what is understood of the first rows and writes nothing.

Recipes:

  temporal  What is known of a reader comes from earlier impressions only. The train split holds
            all clicks of an impression and some sampled non-clicks; val and test hold the
            candidates as they were shown.
  original  The original project's sampling, for comparison. The last story shown is the target,
            and the stories before it are what the reader liked and disliked. That leaks, because
            those labels are not known when serving. One sample an impression, balanced.

Everything is written to parquet files. The same samples as text, for LLaMA-Factory and TRL, are
complete with `original`. With `temporal` they are a selection of --text-samples pairs, because all
pairs of MIND-large would take tens of gigabytes. Faulty rows are listed in dropped.jsonl.
"""

import argparse
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from shutil import which

from app.scoring.profile import LAYOUTS
from app.scoring.wording import is_chat
from training.arguments import check_least
from training.data.options import Original, PrepareOptions, Recipe, Temporal
from training.errors import TrainingError

TEMPORAL_HELP = {
    "negatives": "sampled non-clicks for each click in train",
    "history_samples": "clicks of each reader's history to learn from as well",
    "history": "most recent clicked stories kept",
    "liked": "stories kept that were clicked in earlier impressions",
    "disliked": "stories kept that were passed over in earlier impressions",
    "text_history": "stories of the history in the text files",
    "text_samples": "pairs in each text file, whole impressions; 0 for none, -1 for all",
}
CHATS = [name for name, layout in LAYOUTS.items() if is_chat(layout)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments. Those of a recipe have no default here, so that one given to
    the other recipe is noticed."""
    add = parser.add_argument
    add("--train", type=Path, required=True, metavar="DIR", help="folder to learn from")
    add("--log", type=Path, metavar="FILE", help="mapping of the folders' columns, in YAML")
    split = parser.add_mutually_exclusive_group()
    split.add_argument("--val", type=Path, metavar="DIR", help="folder to validate on")
    split.add_argument(
        "--val-from", metavar="TIME", help="without --val: the part of --train from this time on"
    )
    split.add_argument(
        "--val-days", type=int, default=1, metavar="N", help="without --val: its last N days (1)"
    )
    test = parser.add_mutually_exclusive_group()
    test.add_argument(
        "--test", type=Path, metavar="DIR", help="folder to test on; labels are optional"
    )
    test.add_argument(
        "--test-from", metavar="TIME", help="without --test: test on --train from this time on"
    )
    add("--out", type=Path, default=Path("data/mind"), metavar="DIR", help="default: data/mind")
    add(
        "--describe",
        type=int,
        nargs="?",
        const=1000,
        metavar="ROWS",
        help="print what is understood of the first rows of events (1000), and write nothing",
    )
    add("--recipe", choices=["temporal", "original"], default="temporal")
    add("--seed", type=int, default=0, help="the same seed gives the same bytes")
    add(
        "--max-bad-share",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="stop if a larger share of a file's rows is faulty (0.01)",
    )
    temporal = parser.add_argument_group("with the temporal recipe")
    for name, text in TEMPORAL_HELP.items():
        flag = f"--{name.replace('_', '-')}"
        text = f"{text} ({getattr(Temporal, name)})"
        temporal.add_argument(flag, type=int, metavar="N", help=text)
    temporal.add_argument("--layout", choices=CHATS, help="of the text files (compact)")


def run(given: argparse.Namespace) -> None:
    """Prepare the data, and print what was made of it."""
    options = read_options(given)
    if given.describe is not None:
        check_least("describe", given.describe, 1)
        from training.data.describe import describe

        print(describe(options, given.describe))
        return
    from training.data.prepare import prepare

    print(prepare(options).summary(options.out))
    config = "configs/lora.yaml" if which("nvidia-smi") else "configs/cpu.yaml"
    print(
        f"next: python -m training finetune {config} --model models/smollm2-135m-instruct"
        f" --data {options.out} --output models/news-v1"
    )


def read_options(given: argparse.Namespace) -> PrepareOptions:
    """Raises TrainingError for values that can't be used."""
    return PrepareOptions(
        train=given.train,
        val=given.val,
        test=given.test,
        val_from=read_time("--val-from", given.val_from),
        val_days=given.val_days,
        test_from=read_time("--test-from", given.test_from),
        log=given.log,
        out=given.out,
        recipe=read_recipe(given),
        seed=given.seed,
        max_bad_share=given.max_bad_share,
    )


def read_recipe(given: argparse.Namespace) -> Recipe:
    """The recipe with its options. Raises TrainingError for an option of the other recipe."""
    values = {field.name: getattr(given, field.name) for field in fields(Temporal)}
    values = {name: value for name, value in values.items() if value is not None}
    if given.recipe == Temporal.name:
        return Temporal(**values)
    if values:
        flag = next(iter(values)).replace("_", "-")
        raise TrainingError(f"--{flag} belongs to --recipe temporal: leave it out")
    return Original()


def read_time(flag: str, text: str | None) -> datetime | None:
    """Raises TrainingError for what is no time, and for one with a zone: MIND's times have none,
    and those of other logs are UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo:
        raise TrainingError(f"{flag} {text}: write 2019-11-14 or 2019-11-14T12:00")
    return moment
