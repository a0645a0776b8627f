"""A base model's folder, which appears under its name once it is whole."""

from pathlib import Path

from training.base_models import hubs
from training.base_models.options import MINILM, SMOLLM2, DownloadOptions
from training.errors import TrainingError
from training.folders import only_writer


def download(options: DownloadOptions) -> bool:
    """Bring the model into its folder; False if it is there already.

    What an interrupted download has brought stays beside the folder as `.NAME.partial`, and the
    next one goes on from it. Raises TrainingError.
    """
    output = options.folder
    if (output / "config.json").is_file():
        return False
    if output.exists():
        raise TrainingError(f"{output} exists but holds no config.json: move it away")
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"can't write to {output.parent}: {error.strerror}") from None
    with only_writer(output):
        fetch(options, partial)
        check_folder(partial)
        try:
            partial.rename(output)
        except OSError as error:  # another download has finished meanwhile
            raise TrainingError(f"can't write {output}: {error.strerror}") from None
    return True


def fetch(options: DownloadOptions, folder: Path) -> None:
    """Fill `folder`. Raises TrainingError."""
    if options.model == SMOLLM2:
        from training.base_models.smollm2 import make_smollm2  # with torch, which takes seconds

        make_smollm2(folder)
    elif options.model == MINILM:
        from training.base_models.minilm import make_minilm

        make_minilm(folder)
    elif options.source == "huggingface":
        hubs.from_huggingface(options.model, folder)
    else:
        hubs.from_modelscope(options.model, folder)


def check_folder(folder: Path) -> None:
    """Raise TrainingError where a file is missing that the service needs."""
    for pattern in ("config.json", "tokenizer.json", "*.safetensors"):
        if not list(folder.glob(pattern)):
            raise TrainingError(f"the model holds no {pattern}: it can't be served")
