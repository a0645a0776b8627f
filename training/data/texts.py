"""Samples as text for other programs, a line each: {"instruction", "input", "output"}.

LLaMA-Factory finds the files by dataset_info.json; TRL reads them as a JSON data set. `instruction`
is the layout's system text and `input` its user text, without the control tokens of a chat, which
those programs add.
"""

import json
from collections.abc import Iterable, Sequence
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
from training.errors import TrainingError

NAMES = {"train.jsonl": "mind", "val.jsonl": "mind_val", "test.jsonl": "mind_test"}


def write_split(file: Path, rows: pl.DataFrame, news: pl.DataFrame, profile: Profile) -> int:
    """Write a split's rows as text and return the number of lines.

    Without labels no file is written. Raises TrainingError for a layout that is not a chat.
    """
    if rows["clicked"].null_count():
        return 0
    impressions = to_impressions(rows, to_stories(news), news["id"].to_list())
    return write_texts(file, impressions, profile)


def write_register(folder: Path) -> None:
    """Write dataset_info.json for the text files that are there."""
    names = [file for file in NAMES if (folder / file).exists()]
    text = json.dumps(dataset_info(names), indent=2)
    (folder / "dataset_info.json").write_text(text + "\n", encoding="utf-8")


def write_texts(file: Path, impressions: Iterable[Impression], profile: Profile) -> int:
    """Write a line for each candidate of the labelled impressions and return how many.

    Raises TrainingError for a layout that is not a chat.
    """
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
    """LLaMA-Factory's register, in which `mind` is train and `mind_val` is val.

    The original project named the instruction `prompt`, which put it into the user message, in
    training only. Named `system` (with `template: qwen`), training has the prompt of serving.
    """
    columns = {"system": "instruction", "prompt": "input", "response": "output"}
    return {NAMES[file]: {"file_name": file, "columns": columns} for file in files}
