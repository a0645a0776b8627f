"""From folders with click logs to a prepared folder."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from training.data.catalogue import StoryIds, merge_stories
from training.data.click_log import ClickLog, open_log
from training.data.faults import FileReport
from training.data.logs.histories import clicks_of
from training.data.logs.site import SiteLog
from training.data.manifest import (
    DROPPED_FILE,
    MANIFEST_FILE,
    Manifest,
    SplitCounts,
    count_rows,
    count_split,
    describe_files,
    hash_files,
    write_faults,
)
from training.data.options import Original, PrepareOptions
from training.data.prepared import LOG_FILE, NEWS_FILE
from training.data.samples import (
    LOG_ROWS,
    add_earlier,
    choose_pairs,
    in_order_of_time,
    sample_original,
    sample_temporal,
    split_by_time,
)
from training.data.texts import write_register, write_split
from training.errors import TrainingError
from training.folders import replaced_folder
from training.progress import say

SPLITS = ("train", "val", "test")
WHY_NONE = {
    "temporal": "an impression without a click teaches nothing",
    "original": "to balance them, some must end with a clicked story and some with one not clicked",
}
"""Why a recipe may leave no impression of a split."""


@dataclass(frozen=True, slots=True)
class ClickLogs:
    """What the input files hold. impressions: by split, as training.data.mind reads them. drawn:
    whether nobody was shown some of the candidates."""

    news: pl.DataFrame
    impressions: dict[str, pl.DataFrame]
    reports: list[FileReport]
    drawn: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """What a recipe makes of the click logs. rows: by split, with
    training.data.samples.COLUMNS; read: how many impressions each split had before."""

    news: pl.DataFrame
    rows: dict[str, pl.DataFrame]
    read: dict[str, int]
    reports: list[FileReport]
    drawn: bool


def prepare(options: PrepareOptions) -> Manifest:
    """Write the folder `options.out`, whole or not at all. Raises TrainingError."""
    with replaced_folder(options.out, MANIFEST_FILE) as folder:
        return fill(folder, options)


def fill(folder: Path, options: PrepareOptions) -> Manifest:
    """Write all files of a prepared folder, the manifest last."""
    samples = make_samples(folder, options)
    samples.news.write_parquet(folder / NEWS_FILE)
    splits = write_splits(folder, samples, options)
    write_register(folder)
    write_faults(folder / DROPPED_FILE, samples.reports)
    files = describe_files(folder)
    manifest = Manifest(
        recipe=options.recipe.name,
        seed=options.seed,
        options=asdict(options.recipe),
        stories=len(samples.news),
        splits=splits,
        drawn=samples.drawn,
        rows=count_rows(samples.reports),
        files=files,
        data_hash=hash_files(files),
    )
    manifest.write(folder)
    return manifest


def write_splits(folder: Path, samples: Samples, options: PrepareOptions) -> dict[str, SplitCounts]:
    """Write each split as parquet and as text, and count it. Raises TrainingError for a split of
    which the recipe has left nothing."""
    recipe, profile = options.recipe, options.recipe.text_profile()
    counts = {}
    for split, rows in samples.rows.items():
        read = samples.read[split]
        if rows.is_empty():
            raise TrainingError(
                f"none of the {read:,} impressions of {split} can be used: {WHY_NONE[recipe.name]}"
            )
        say(f"writing {len(rows):,} impressions of {split}")
        rows.write_parquet(folder / f"{split}.parquet")
        chosen = choose_pairs(rows, recipe.text_samples, options.seed)
        lines = write_split(folder / f"{split}.jsonl", chosen, samples.news, profile)
        counts[split] = count_split(rows, read, lines)
    return counts


def make_samples(folder: Path, options: PrepareOptions) -> Samples:
    """Read the logs, sample them, and write LOG_FILE into `folder` if the recipe has one. The
    impressions as read are large; nothing holds them after this returns."""
    logs = read_logs(options)
    read = {split: len(rows) for split, rows in logs.impressions.items()}
    rows = sample(logs.impressions, folder, options, logs.drawn)
    return Samples(logs.news, rows, read, logs.reports, logs.drawn)


def read_logs(options: PrepareOptions) -> ClickLogs:
    """Read all folders. Raises TrainingError for files that are missing or too faulty, and for a
    split without labels that needs them."""
    given = options.folders().items()
    logs = {split: open_log(folder, split, options.log) for split, folder in given}
    read = [log.read_stories(options.max_bad_share) for log in logs.values()]
    reports = [report for _, found in read for report in found]
    news = merge_stories([stories for stories, _ in read])
    say(f"read {len(news):,} stories")
    ids = StoryIds(news["id"])
    impressions = read_impressions(logs, ids, options, reports)
    sites = {split: log for split, log in logs.items() if isinstance(log, SiteLog)}
    add_histories(sites, impressions, ids, options, reports)
    for split, log in sites.items():
        if log.is_drawn:
            impressions[split] = log.draw(impressions[split], len(news), options.seed)
    cut(impressions, options)
    in_order = {split: impressions[split] for split in SPLITS if split in impressions}
    return ClickLogs(news, in_order, reports, any(log.is_drawn for log in sites.values()))


def read_impressions(
    logs: Mapping[str, ClickLog], ids: StoryIds, options: PrepareOptions, reports: list[FileReport]
) -> dict[str, pl.DataFrame]:
    """By split; adds to the reports."""
    impressions = {}
    for split, log in logs.items():
        rows, found = log.read_impressions(ids, options.recipe.history, options.max_bad_share)
        say(f"read {len(rows):,} impressions of {split}")
        if split != "test" and not rows["labelled"].all():
            raise TrainingError(log.no_labels(ids.ids[int(rows["shown"][0][0]) // 2]))
        impressions[split] = rows
        reports += found
    return impressions


def add_histories(
    sites: Mapping[str, SiteLog],
    impressions: dict[str, pl.DataFrame],
    ids: StoryIds,
    options: PrepareOptions,
    reports: list[FileReport],
) -> None:
    """Give the impressions of logs without a column for it their history, from what all of the
    logs say was clicked; adds to the reports."""
    built = {split: log for split, log in sites.items() if log.builds_history}
    if not built:
        return
    labelled = (rows.filter("labelled") for rows in impressions.values())
    clicks = pl.concat(clicks_of(rows) for rows in labelled)
    for split, log in built.items():
        impressions[split], found = log.add_history(
            impressions[split], clicks, ids, options.recipe.history, options.max_bad_share
        )
        reports += found


def cut(impressions: dict[str, pl.DataFrame], options: PrepareOptions) -> None:
    """Make the splits that have no folder of parts of `train`, by time. Raises TrainingError."""
    if "test" not in impressions and options.test_from is not None:
        early, late = split_by_time(impressions["train"], options.test_from, 1, "test")
        impressions |= {"train": early, "test": late}
    if "val" not in impressions:
        start, days = options.val_from, options.val_days
        early, late = split_by_time(impressions["train"], start, days, "val")
        impressions |= {"train": early, "val": late}


def sample(
    impressions: dict[str, pl.DataFrame], folder: Path, options: PrepareOptions, drawn: bool
) -> dict[str, pl.DataFrame]:
    """The recipe's rows, by split; see make_samples. drawn: stories that nobody was shown were not
    passed over, and there is no log of what was shown. Raises TrainingError."""
    recipe, seed = options.recipe, options.seed
    say(f"sampling by the {recipe.name} recipe")
    if isinstance(recipe, Original):
        if drawn:
            raise TrainingError(
                "--recipe original needs what was shown, but the log has clicks alone: use temporal"
            )
        return {split: sample_original(rows, seed) for split, rows in impressions.items()}
    read = pl.concat(rows.with_columns(split=pl.lit(name)) for name, rows in impressions.items())
    rows = add_earlier(read, recipe.liked, 0 if drawn else recipe.disliked)
    if not drawn:
        write_log(folder / LOG_FILE, rows)
    splits = sample_temporal(
        rows, negatives=recipe.negatives, history_samples=recipe.history_samples, seed=seed
    )
    return {name: splits[name] for name in impressions if name in splits}


def write_log(file: Path, rows: pl.DataFrame) -> None:
    """Write all rows in the order of time, a few at a time, which saves a sorted copy of them."""
    parts = in_order_of_time(rows)

    def read(*_: object) -> Iterator[pl.DataFrame]:
        return parts

    schema = next(in_order_of_time(rows.head(1))).schema
    register_io_source(read, schema=schema).sink_parquet(file, row_group_size=LOG_ROWS)
