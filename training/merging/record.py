"""merge.json: what a merged model was made from, and how far it is from that."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from app.engine.fingerprint import fingerprint
from app.engine.lora import WEIGHTS_FILE
from training.merging.options import MergeOptions

RECORD_FILE = "merge.json"


@dataclass(frozen=True, slots=True)
class CheckFindings:
    """Scores of the merged model against those of the base with its adapters.

    prompts: how many were scored. max_difference, mean_difference: between the two models'
    log-odds. adapter_effect: the most that the adapters move a prompt's log-odds. dtype: the
    precision of most of the merged weights, such as bfloat16.
    """

    prompts: int
    max_difference: float
    mean_difference: float
    adapter_effect: float
    dtype: str


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """base_model: the name of the base's folder. base_fingerprint: tells its weights from others.
    adapters: SHA-256 of each adapter's weights, in hex, by the name of its folder."""

    base_model: str
    base_fingerprint: str
    adapters: dict[str, str]

    def write(self, folder: Path, found: CheckFindings | None) -> None:
        """Write merge.json into `folder`. found: None if nothing was checked. Raises OSError."""
        known = asdict(self) | (asdict(found) if found is not None else {})
        text = json.dumps(known, indent=1)
        (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")


def describe(options: MergeOptions) -> MergeRecord:
    """The record of a merge."""
    return MergeRecord(
        base_model=options.base.name,
        base_fingerprint=fingerprint(options.base),
        adapters={
            adapter.name: hashlib.sha256((adapter / WEIGHTS_FILE).read_bytes()).hexdigest()
            for adapter in options.adapter
        },
    )
