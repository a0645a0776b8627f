"""What `download` is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SMOLLM2 = "smollm2"
"""The name of the default model, which comes from PyPI and needs no model hub."""
SMOLLM2_FOLDER = "smollm2-135m-instruct"
MINILM = "minilm"
"""The name of the default sentence encoder, which comes from PyPI too."""
MINILM_FOLDER = "all-minilm-l6-v2"
OWN_FOLDERS = {SMOLLM2: SMOLLM2_FOLDER, MINILM: MINILM_FOLDER}
MODELS = Path("models")


@dataclass(frozen=True)
class DownloadOptions:
    """model: SMOLLM2, MINILM, or a hub's model id such as Qwen/Qwen3-8B. source: the hub. output:
    the folder to make; None for one below MODELS."""

    model: str
    source: Literal["huggingface", "modelscope"]
    output: Path | None

    @property
    def folder(self) -> Path:
        """Where the model goes."""
        if self.output is not None:
            return self.output
        if self.model in OWN_FOLDERS:
            return MODELS / OWN_FOLDERS[self.model]
        return MODELS / self.model.rstrip("/").rsplit("/", 1)[-1].lower()
