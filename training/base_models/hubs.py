"""Models from Hugging Face and ModelScope, by the hubs' own libraries."""

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub

from app.files import first_line
from training.base_models.options import SMOLLM2
from training.errors import TrainingError

MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
"""What is downloaded of a model's repository."""


def from_huggingface(model: str, folder: Path) -> None:
    """Download a model into `folder`. Raises TrainingError."""
    fetch_from_hub(
        "Hugging Face",
        model,
        folder,
        lambda: huggingface_hub.snapshot_download(
            model, local_dir=folder, allow_patterns=MODEL_FILES
        ),
    )


def from_modelscope(model: str, folder: Path) -> None:
    """Download a model into `folder`. Raises TrainingError."""
    try:
        from modelscope import snapshot_download  # not every installation has it
    except ImportError:
        raise TrainingError(
            "ModelScope's library is not installed: `requirements/install.sh train` installs it"
        ) from None
    fetch_from_hub(
        "ModelScope",
        model,
        folder,
        lambda: snapshot_download(model, local_dir=str(folder), allow_patterns=MODEL_FILES),
    )


def fetch_from_hub(hub: str, model: str, folder: Path, fetch: Callable[[], object]) -> None:
    """Run a hub's own download, which shows progress and resumes; its errors become one line.

    What has arrived stays in `folder` for the next try.
    """
    print(f"downloading {model} from {hub}", flush=True)
    try:
        fetch()
    except Exception as error:  # each hub library has a tree of errors of its own
        if not any(folder.rglob("*.safetensors*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise TrainingError(
            f"can't get {model} from {hub}: {first_line(error)}. Nothing usable is cached; the"
            f" default model needs no hub: python -m training download {SMOLLM2}"
        ) from error
