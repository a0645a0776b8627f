"""Recipes: from impressions, as training.data.mind reads them, to what a model learns from.

`original` is the original project's sampling, kept for comparison. It takes liked and disliked from
the very impression whose last story is the target. Those labels are not known yet when serving, so
its figures flatter. `temporal` uses of a reader only what was known at that moment.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from training.data.options import ORIGINAL_LIST
from training.errors import TrainingError

Ints = npt.NDArray[np.int64]
MIN_EARLIER_CLICKS = 3
"""How many clicks must precede one that `sample_histories` takes."""
SLICE_ROWS = 100_000
"""How many impressions are worked on at a time. With another number, a seed draws otherwise."""
COLUMNS = ("impression", "user", "time", "history", "liked", "disliked", "candidates", "clicked")
LOG_ROWS = 25_000
"""How many impressions of the log are made at a time."""
SPLIT_NAMES = {"val": "validation", "test": "the test"}
CLICKED = pl.element() % 2 == 1  # whether a code in `shown` is a click's
STORY = pl.element() // 2  # its story's index


def split_by_time(
    impressions: pl.DataFrame, start: datetime | None, days: int, split: str = "val"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, `split`): the impressions before `start`, and those from then on.

    Without a start, the latter are the last `days` calendar days. Raises TrainingError where one of
    the two would be empty.
    """
    first, last = impressions["time"].min(), impressions["time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise TrainingError(
            "no usable impressions in the training folder: its log holds faulty rows alone,"
            " expected some to learn from"
        )
    if start is None:
        midnight = datetime(last.year, last.month, last.day)
        start = midnight - timedelta(days=days - 1)
    if not first < start <= last:
        raise TrainingError(
            f"{SPLIT_NAMES[split]} would begin at {start}, but impressions are from {first} to"
            f" {last}; set --{split}-from (a day or a time between those), or give a --{split}"
            " folder"
        )
    late = pl.col("time") >= start
    return impressions.filter(~late), impressions.filter(late)


def sample_original(impressions: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The sampling of the original project's README, one sample an impression; columns as COLUMNS.

    The target is the last story shown. Liked and disliked are the first three stories before it
    that were clicked and not clicked. The history is the last three clicks; a reader without any
    stays, with an empty history. The larger class is cut down to the size of the smaller, at random
    by the seed. An impression without labels keeps its natural candidates and has no liked or
    disliked.

    The original's notebook differs from its README, which is followed here: the notebook puts all
    stories of the impression into liked and disliked, and does not balance (it prints 10.7 % of
    Yes., where the README says about 50 %).
    """
    if not impressions["labelled"].all():
        empty = pl.lit([], dtype=pl.List(pl.UInt32))
        return natural(impressions.with_columns(liked=empty, disliked=empty))
    code = pl.col("shown").list.last()
    positive = impressions.select(code % 2 == 1).to_series().to_numpy()
    before = pl.col("shown").list.head(pl.col("shown").list.len() - 1)
    return impressions[balance(positive, seed)].select(
        "impression",
        "user",
        "time",
        "history",
        liked=before.list.filter(CLICKED).list.head(ORIGINAL_LIST).list.eval(STORY),
        disliked=before.list.filter(~CLICKED).list.head(ORIGINAL_LIST).list.eval(STORY),
        candidates=pl.concat_list(code // 2),
        clicked=pl.concat_list(code % 2 == 1),
    )


def balance(positive: npt.NDArray[np.bool_], seed: int) -> Ints:
    """Row numbers, in order: all of the smaller class and as many of the larger, drawn by seed."""
    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    size = min(len(yes), len(no))
    random = np.random.default_rng(seed)
    drawn = [rows if len(rows) == size else random.choice(rows, size, False) for rows in (yes, no)]
    return np.sort(np.concatenate(drawn))


def sample_temporal(
    rows: pl.DataFrame, *, negatives: int, history_samples: int, seed: int
) -> dict[str, pl.DataFrame]:
    """Rows with the columns COLUMNS, by split (column `split`). rows: of all splits, as add_earlier
    returns them.

    train holds all clicks of an impression and `negatives` sampled non-clicks for each; impressions
    without a click teach nothing and are left out. After them come up to `history_samples` rows a
    reader from `sample_histories`. val and test keep the natural candidates.
    """
    is_train = pl.col("split") == "train"
    histories = sample_histories(
        rows.filter(is_train if history_samples else False),
        samples=history_samples,
        negatives=negatives,
        seed=seed,
    )
    train = rows.filter(is_train & pl.col("shown").list.eval(CLICKED).list.any())
    pairs = sample_negatives(train["shown"], negatives, seed)
    train = pl.concat([train.hstack(pairs).select(COLUMNS), histories])
    others = rows["split"].unique(maintain_order=True).to_list()
    return {"train": train} | {
        name: natural(rows.filter(split=name)) for name in others if name != "train"
    }


def in_order_of_time(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """All rows with their natural candidates and the columns COLUMNS, LOG_ROWS at a time."""
    order = rows["time"].to_numpy().argsort(kind="stable")
    for low in range(0, len(rows), LOG_ROWS):
        yield natural(rows[order[low : low + LOG_ROWS]])


def sample_histories(
    impressions: pl.DataFrame, *, samples: int, negatives: int, seed: int
) -> pl.DataFrame:
    """Up to `samples` clicks from each reader's history, as rows with the columns COLUMNS.

    The row's history is what the reader clicked before. The candidates are the click itself and up
    to `negatives` clicks drawn from all readers' histories, so that a popular story is as frequent
    among the non-clicks as among the clicks. Such rows teach which stories belong together, not
    which are passed over.
    """
    readers = impressions.sort("time").unique("user", keep="last", maintain_order=True)
    readers = readers.filter(pl.col("history").list.len() > MIN_EARLIER_CLICKS)
    if not samples or readers.is_empty():
        return natural(impressions.clear().with_columns(liked="history", disliked="history"))
    random = np.random.default_rng(seed)
    pool = readers["history"].explode().to_numpy()
    sizes = readers["history"].list.len().to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    late = np.flatnonzero(place >= MIN_EARLIER_CLICKS)
    order = random.permutation(late)
    order = order[np.argsort(row[order], kind="stable")]
    nth = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    chosen = np.sort(order[nth < samples])
    drawn = pool[random.integers(0, len(pool), (len(chosen), negatives))]
    nothing = pl.lit([], dtype=pl.List(pl.UInt32))
    clicks = readers[row[chosen]].with_columns(
        place=place[chosen], click=pool[chosen], drawn=pl.Series(drawn).arr.to_list()
    )
    rows: pl.DataFrame = clicks.with_columns(
        others=pl.col("drawn").list.set_difference("history").list.sort(),
    ).select(
        impression=pl.format("{}-history-{}", "impression", "place"),
        user="user",
        time="time",
        history=pl.col("history").list.head("place"),
        liked=nothing,
        disliked=nothing,
        candidates=pl.concat_list("click", "others"),
        clicked=pl.concat_list(pl.lit(True), pl.col("others").list.eval(pl.element().is_null())),
    )
    return rows


def natural(impressions: pl.DataFrame) -> pl.DataFrame:
    """Rows with all candidates as they were shown; `clicked` is null where there are no labels."""
    clicked = pl.when("labelled").then(pl.col("shown").list.eval(CLICKED))
    rows = impressions.with_columns(candidates=pl.col("shown").list.eval(STORY), clicked=clicked)
    return rows.select(COLUMNS)


def add_earlier(impressions: pl.DataFrame, liked: int, disliked: int) -> pl.DataFrame:
    """Add the columns liked and disliked: the last stories that the reader clicked, and was shown
    but did not click, at strictly earlier times. Impressions of the same moment don't know of each
    other."""
    order = impressions.select("user", "time").with_row_index("row").sort("user", "time", "row")
    ordered = impressions.select("shown", "labelled")[order["row"]]
    reader = run_starts(order.select("user"))
    moment = run_starts(order.select("user", "time"))
    back = order["row"].arg_sort()
    columns = []
    for name, of_kind, keep in (
        ("liked", CLICKED, liked),
        ("disliked", ~CLICKED, disliked),
    ):
        # Of one impression no more than the last `keep` can matter to a later one.
        own = pl.when("labelled").then(pl.col("shown").list.filter(of_kind).list.tail(keep))
        stories = ordered.select(own.list.eval(STORY)).to_series()
        counts = stories.list.len().fill_null(0).to_numpy().astype(np.int64)
        offsets = np.concatenate(([0], np.cumsum(counts)))
        end = offsets[moment]
        start = np.maximum(offsets[reader], end - keep)
        flat = stories.filter(stories.list.len() > 0).explode().to_numpy()
        columns.append(windows(flat, start, end, keep)[back].alias(name))
    return impressions.with_columns(columns)


def run_starts(sorted_rows: pl.DataFrame) -> Ints:
    """For each row, the number of the first row in its run of equal rows."""
    changed = sorted_rows.select(
        pl.any_horizontal(pl.all() != pl.all().shift()).fill_null(True)
    ).to_series()
    starts = np.where(changed.to_numpy(), np.arange(len(changed)), 0)
    return np.maximum.accumulate(starts)


def windows(flat: npt.NDArray[np.uint32], start: Ints, end: Ints, width: int) -> pl.Series:
    """The lists flat[start:end] for each row, at most `width` long each."""
    if not width or not len(flat):
        return pl.Series([[]], dtype=pl.List(pl.UInt32)).new_from_index(0, len(start))
    parts = []
    for low in range(0, len(start), SLICE_ROWS):
        ends = end[low : low + SLICE_ROWS]
        places = np.maximum(ends[:, None] + np.arange(-width, 0), 0)
        block = pl.DataFrame({"block": flat[places], "size": ends - start[low : low + SLICE_ROWS]})
        parts.append(block.select(pl.col("block").arr.to_list().list.tail("size")).to_series())
    return pl.concat(parts)


def sample_negatives(shown: pl.Series, negatives: int, seed: int) -> pl.DataFrame:
    """Columns candidates and clicked, in the order shown: each row's clicks (at least one) and, for
    each click, `negatives` of the row's other stories (all, if there are fewer), drawn without
    replacement."""
    random = np.random.default_rng(seed)
    parts = [draw_negatives(part, negatives, random) for part in slices(shown)]
    empty = pl.DataFrame(schema={"candidates": pl.List(pl.UInt32), "clicked": pl.List(pl.Boolean)})
    return pl.concat([empty, *parts])


def draw_negatives(shown: pl.Series, negatives: int, random: np.random.Generator) -> pl.DataFrame:
    """One slice of what sample_negatives returns."""
    codes = shown.explode().to_numpy()
    sizes = shown.list.len().to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(sizes)), sizes)
    clicked = codes % 2 == 1
    wanted = (1 + negatives) * np.bincount(row[clicked], minlength=len(sizes))
    # Sorted by this key, a row's clicks stand first and its other stories follow, shuffled.
    key = (row << 45) | np.where(clicked, 0, random.integers(1, 1 << 45, len(row)))
    order = np.argsort(key)
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.sort(order[place < wanted[row]])
    pairs = pl.DataFrame({"row": row[chosen], "code": codes[chosen]}).set_sorted("row")
    lists = pairs.group_by("row", maintain_order=True).agg(
        candidates=pl.col("code") // 2, clicked=pl.col("code") % 2 == 1
    )
    return lists.drop("row")


def slices(rows: pl.Series) -> Iterator[pl.Series]:
    """The rows, SLICE_ROWS at a time."""
    for low in range(0, len(rows), SLICE_ROWS):
        yield rows[low : low + SLICE_ROWS]


def choose_pairs(rows: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    """Whole impressions drawn by the seed, in their order, with at most `limit` candidates in all;
    -1 for every impression."""
    pairs = rows["candidates"].list.len().to_numpy().astype(np.int64)
    if limit < 0 or pairs.sum() <= limit:
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))
    within = np.cumsum(pairs[order]) <= limit
    return rows[np.sort(order[within])]
