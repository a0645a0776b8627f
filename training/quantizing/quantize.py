"""A model folder whose layers' weights have 8 bits, made from one with its own precision.

Quantizing without the check needs only the service's packages.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.engine.lora import CONFIG_FILE
from app.engine.weights import QUANTIZED_FILE
from training.errors import TrainingError
from training.folders import copy_side_files, read_json, replaced_folder
from training.merging.merge import copy_profile
from training.quantizing.options import QuantizeOptions
from training.quantizing.record import CheckFindings, describe

Check = Callable[[Path], CheckFindings]


def quantize(options: QuantizeOptions) -> CheckFindings | None:
    """Write the quantized model to `options.output`; None if it is not to be checked.

    Raises LoraError for weights that can't be read, and TrainingError for a folder that is no plain
    model, for a model that exceeds the limits, and where the folder can't be written.
    """
    from training.quantizing.weights import write_quantized

    config = read_config(options.model)
    check = None if options.no_check else make_check(options)
    with replaced_folder(options.output, QUANTIZED_FILE) as folder:
        quantization = write_quantized(options.model, options.to, folder)
        text = json.dumps(config | {"quantization_config": quantization}, indent=2)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        copy_side_files(options.model, folder)
        copy_profile(options.model, folder, "quantized")
        record = describe(options)
        found = None if check is None else check(folder)
        record.write(folder, found)
    return found


def read_config(model: Path) -> dict[str, Any]:
    """The model's config.json. Raises TrainingError for an adapter and for a quantized model."""
    if (model / CONFIG_FILE).is_file():
        raise TrainingError(f"{model} is an adapter: merge it into its base, and quantize that")
    config = read_json(model / "config.json")
    if "quantization_config" in config:
        raise TrainingError(f"{model} is quantized: quantize the model it was made from")
    return config


def make_check(options: QuantizeOptions) -> Check:
    """A function that compares the model in a folder with the one it was made from."""
    from training.merging.check import make_impressions  # needs training's packages
    from training.quantizing.check import check_limits, compare

    impressions = make_impressions(options.data)

    def check(folder: Path) -> CheckFindings:
        found = compare(options.model, folder, impressions)
        check_limits(found, options)
        return found

    return check
