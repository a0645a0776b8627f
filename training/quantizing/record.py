"""quantize.json: what a quantized model was made from, and how far it is from that."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from app.engine.fingerprint import fingerprint, sampled_fingerprint
from app.engine.weights import QUANTIZED_FILE
from training.quantizing.options import Kind, QuantizeOptions


@dataclass(frozen=True, slots=True)
class CheckFindings:
    """Scores of the quantized model against those of the model it was made from.

    prompts: how many were scored. max_difference, mean_difference: between the two models'
    log-odds. order: the mean rank correlation of one reader's stories. mass, quantized_mass: how
    much probability the two labels hold together, on average.
    """

    prompts: int
    max_difference: float
    mean_difference: float
    order: float
    mass: float
    quantized_mass: float


@dataclass(frozen=True, slots=True)
class QuantizeRecord:
    """model: the name of the folder that was quantized. source_fingerprints: tell its weights from
    others, by the rules of this and of earlier versions; an adapter trained on it carries one.
    compressed_tensors: the version of the library that wrote the weights."""

    model: str
    source_fingerprints: list[str]
    to: Kind
    compressed_tensors: str

    def write(self, folder: Path, found: CheckFindings | None) -> None:
        """Write quantize.json into `folder`. found: None if nothing was checked. Raises OSError."""
        known = asdict(self) | (asdict(found) if found is not None else {})
        text = json.dumps(known, indent=1)
        (folder / QUANTIZED_FILE).write_text(text + "\n", encoding="utf-8")


def describe(options: QuantizeOptions) -> QuantizeRecord:
    """The record of a model that is quantized."""
    model = options.model.resolve()
    return QuantizeRecord(
        model=model.name,
        source_fingerprints=[fingerprint(model), sampled_fingerprint(model)],
        to=options.to,
        compressed_tensors=version("compressed-tensors"),
    )
