"""A model folder in which LoRA adapters are merged into their base.

Merging without the check needs only the service's packages, for the service merges at its start.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.engine.lora import check_finite, check_fit, read_lora
from app.scoring.profile import PROFILE_FILE, RANKER_FILES
from training.errors import TrainingError
from training.folders import copy_side_files, read_json, replaced_folder
from training.merging.options import MergeOptions
from training.merging.record import RECORD_FILE, CheckFindings, describe
from training.merging.weights import write_merged
from training.progress import say

Check = Callable[[Path], CheckFindings]


def merge(options: MergeOptions) -> CheckFindings | None:
    """Write the merged model to `options.output`; None if it is not to be checked.

    Raises LoraError for adapters that don't fit or hold numbers that are not finite, and
    TrainingError for a quantized base, for a model that fails the check, and where the folder can't
    be written.
    """
    adapters = [read_lora(folder) for folder in options.adapter]
    for adapter in adapters:
        check_fit(adapter, options.base)
        check_finite(adapter)
    config = read_config(options.base)
    check = None if options.no_check else make_check(options)
    with replaced_folder(options.output, RECORD_FILE) as folder:
        write_merged(options.base, adapters, folder)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        copy_side_files(options.base, folder)
        copy_profile(options.adapter[0], folder, "merged")
        record = describe(options)
        found = None if check is None else check(folder)
        record.write(folder, found)
    return found


def read_config(base: Path) -> dict[str, Any]:
    """The base's config.json. Raises TrainingError for a quantized model."""
    config = read_json(base / "config.json")
    if "quantization_config" in config:
        raise TrainingError(f"{base} is quantized: merge into the model it was made from")
    return config


def make_check(options: MergeOptions) -> Check:
    """A function that compares the merged model in a folder with its base and adapters."""
    from training.merging.check import compare, make_impressions  # needs training's packages

    impressions = make_impressions(options.data)
    return lambda folder: compare(options.base, options.adapter, folder, impressions)


def copy_profile(source: Path, folder: Path, made: str) -> None:
    """Copy the source's profile, or say what a model without one gets; and its ranker's files.
    made: what has been done, such as merged."""
    for name in RANKER_FILES:
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
    profile = source / PROFILE_FILE
    if profile.is_file():
        (folder / PROFILE_FILE).write_bytes(profile.read_bytes())
    else:
        say(
            f"{source} has no {PROFILE_FILE}: the {made} model will get the original project's"
            " prompt, uncalibrated"
        )
