"""An adapter with which a merged model answers as its base does."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from app.engine.lora import CONFIG_FILE, WEIGHTS_FILE, check_finite, read_lora
from app.scoring.profile import PROFILE_FILE, load_profile
from training.folders import replaced_folder
from training.merging.options import UndoOptions


def undo(options: UndoOptions) -> None:
    """Write the adapter with each B negated, so that it takes away what merging has added.

    What is left is rounding: of the merged weights to the base's precision, and of the sums in the
    engine. Raises LoraError for a folder that is no plain LoRA adapter, and TrainingError where the
    output can't be written.
    """
    adapter = read_lora(options.adapter)
    check_finite(adapter)
    negated = {pair.b for pair in adapter.pairs.values()}
    tensors = load_file(adapter.folder / WEIGHTS_FILE)
    with replaced_folder(options.output, CONFIG_FILE) as folder:
        save_file(
            {name: -tensor if name in negated else tensor for name, tensor in tensors.items()},
            folder / WEIGHTS_FILE,
            metadata={"format": "pt"},
        )
        (folder / CONFIG_FILE).write_bytes((adapter.folder / CONFIG_FILE).read_bytes())
        write_profile(adapter.folder, folder)


def write_profile(adapter: Path, folder: Path) -> None:
    """The adapter's, since the base is to be asked the same question, but without calibration and
    threshold, which hold for the tuned model alone."""
    profile = load_profile(adapter)
    kept = profile.model_dump(mode="json", exclude={"calibration", "threshold", "data_hash"})
    written = type(profile).model_validate(kept).model_dump_json(indent=1)
    (folder / PROFILE_FILE).write_text(f"{written}\n", encoding="utf-8")
