"""Other stories for clicks of which nobody knows what else was shown.

They are drawn from the clicks of other readers in the hours before, so that a story that is clicked
often is as frequent among the others as among the clicks. A model that learns from them learns
which stories go with which reader. It does not learn what is popular or what is passed over, and no
click-through can be counted, because nobody was shown the drawn stories.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from training.data.logs.mapping import Drawn

TRIES = 3
"""How many draws there are for each story wanted: some are the reader's own or come twice."""
ROWS = 50_000
"""How many clicks are worked on at a time. With another number, a seed draws otherwise."""


def draw_others(rows: pl.DataFrame, stories: int, drawn: Drawn, seed: int) -> pl.DataFrame:
    """Impressions with one click each, and as many other stories as can be had up to
    `drawn.others`, in a random order. Clicks for which there is none are left out.

    rows: user, time and shown, one click each. stories: how many there are.
    """
    rows = rows.sort("time", maintain_order=True)
    times = rows["time"].dt.epoch("ms").to_numpy().astype(np.int64)
    clicked = rows["shown"].list.first().to_numpy().astype(np.int64) // 2
    reader = rows["user"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    own = np.unique(reader * stories + clicked)
    low = np.searchsorted(times, times - round(drawn.hours * 3_600_000))
    high = np.searchsorted(times, times)  # strictly earlier
    random = np.random.default_rng(seed)
    parts = []
    for start in range(0, len(rows), ROWS):
        part = slice(start, start + ROWS)
        size = (len(times[part]), TRIES * drawn.others)
        places = random.integers(low[part, None], np.maximum(high, low + 1)[part, None], size)
        row = np.repeat(np.arange(start, start + size[0]), size[1])
        story = clicked[places].ravel()
        live = np.repeat(high[part] > low[part], size[1])
        live &= ~np.isin(reader[row] * stories + story, own)
        others = pl.DataFrame({"row": row[live], "story": story[live]})
        others = others.unique(maintain_order=True)
        others = others.group_by("row", maintain_order=True).head(drawn.others)
        parts.append(mix(others, clicked, random))
    lists = pl.concat(parts)
    return rows[lists["row"]].with_columns(lists["shown"])


def mix(
    others: pl.DataFrame, clicked: npt.NDArray[np.int64], random: np.random.Generator
) -> pl.DataFrame:
    """row and shown: the others and the click of each row, in a random order."""
    rows = others["row"].unique(maintain_order=True).to_numpy()
    click = pl.DataFrame({"row": rows, "code": 2 * clicked[rows] + 1})
    flat = pl.concat([others.select("row", code=2 * pl.col("story")), click])
    flat = flat.with_columns(key=random.random(len(flat))).sort("row", "key")
    code = pl.col("code").cast(pl.UInt32)
    return flat.group_by("row", maintain_order=True).agg(shown=code)
