"""Samples as text, for other programs: {"instruction", "input", "output"} lines.

LLaMA-Factory reads them by dataset_info.json, TRL as a JSON data set. instruction is the layout's
system text and input its user text, without the chat's control tokens, which those programs add.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from app.scoring.profile import Profile
from app.scoring.wording import (
    Piece,
    as_text,
    chat_parts,
    item_pieces,
    reader_pieces,
    used_of,
)
from training.data.prepared import Impression, to_impressions, to_stories
from training.data.samples import choose_pairs
from training.errors import TrainingError

NAMES = {"train.jsonl": "mind", "val.jsonl": "mind_val", "test.jsonl": "mind_test"}


def write_split(
    file: Path, rows: pl.DataFrame, news: pl.DataFrame, seed: int, settings: Mapping[str, Any]
) -> int:
    """A split as text, as much of it as `settings` ask for (none: all of it, in the original
    project's words); returns the number of lines. Without labels no file is written."""
    if rows["clicked"].null_count():
        return 0
    profile = Profile()
    if settings:
        rows = choose_pairs(rows, settings["text_samples"], seed)
        profile = Profile(layout=settings["layout"], history=settings["text_history"])
    impressions = to_impressions(rows, to_stories(news), news["id"].to_list())
    return write_texts(file, impressions, profile)


def write_register(folder: Path) -> None:
    """dataset_info.json for the text files that are there."""
    names = [file for file in NAMES if (folder / file).exists()]
    text = json.dumps(dataset_info(names), indent=2)
    (folder / "dataset_info.json").write_text(text + "\n", encoding="utf-8")


def write_texts(file: Path, impressions: Iterable[Impression], profile: Profile) -> int:
    """One line a candidate of the labelled impressions; returns how many. Raises TrainingError for
    a layout that is not a chat."""
    try:
        instruction, layout = chat_parts(profile.layout)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    count = 0
    with file.open("wb") as lines:
        for impression in impressions:
            reader = as_text(reader_pieces(layout, used_of(impression.reader, profile)))
            for story, clicked in zip(impression.candidates, impression.clicked or [], strict=True):
                target = as_text([*item_pieces(layout.target, story), Piece(layout.tail, False)])
                sample = {
                    "instruction": instruction,
                    "input": reader + target,
                    "output": profile.labels.yes if clicked else profile.labels.no,
                }
                lines.write(orjson.dumps(sample, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
    return count


def dataset_info(files: Sequence[str]) -> dict[str, Any]:
    """LLaMA-Factory's register: `mind` is train, `mind_val` val. The original project named the
    instruction `prompt`, so that it moved into the user message in training only; as `system`
    (with `template: qwen`) training has the prompt that serving has."""
    columns = {"system": "instruction", "prompt": "input", "response": "output"}
    return {NAMES[file]: {"file_name": file, "columns": columns} for file in files}
