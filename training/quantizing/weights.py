"""Weights of 8 bits as compressed-tensors writes them, which is how vLLM reads them.

Every matrix of the layers is rounded to the nearest value by row, each with a scale of its own.
What goes into it is rounded while it is served, each token with a scale of its own. Embeddings and
head stay as they are: scores come from two rows of the head, in float32.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import (
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStatus,
    preset_name_to_scheme,
)
from compressed_tensors.quantization.utils import calculate_qparams
from torch import Tensor

from app.engine.lora import PLAIN_MATRIX, VOCABULARY
from app.engine.weights import shapes, weight_files
from training.errors import TrainingError
from training.merging.weights import write_weights
from training.quantizing.options import Kind

SCHEMES: dict[Kind, tuple[str, str]] = {
    "int8": ("W8A8", "int-quantized"),
    "fp8": ("FP8_DYNAMIC", "float-quantized"),
}
"""compressed-tensors' name of the scheme, and of the format of its weights."""


def write_quantized(model: Path, to: Kind, folder: Path) -> dict[str, Any]:
    """Write the model's quantized weights into `folder`, one tensor at a time, and return the
    quantization_config for its config.json.

    Raises OSError, and TrainingError for a model of which not every matrix is known, and for
    weights that are not finite.
    """
    check_matrices(model)
    name, kind = SCHEMES[to]
    scheme = preset_name_to_scheme(name, ["Linear"])
    scheme.format = kind
    write_weights(model, folder, lambda name, tensor: quantize(name, tensor, scheme))
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        format=kind,
        quantization_status=QuantizationStatus.COMPRESSED,
        ignore=["lm_head"],
    )
    found: dict[str, Any] = config.model_dump(mode="json")
    return found


def check_matrices(model: Path) -> None:
    """Raise TrainingError unless each matrix is of the vocabulary or one of a plain layer's seven:
    of others it is not known whether vLLM reads them with 8 bits."""
    for name, shape in shapes(weight_files(model)).items():
        plain = PLAIN_MATRIX.search(name) and len(shape) == 2
        if len(shape) > 1 and not plain and not VOCABULARY.search(name):
            raise TrainingError(
                f"{model} can't be quantized: {name} is none of the matrices that this command"
                " knows (self_attn.{q,k,v,o}_proj and mlp.{gate,up,down}_proj of each layer)"
            )


def quantize(name: str, tensor: Tensor, scheme: QuantizationScheme) -> Mapping[str, Tensor]:
    """A matrix of the layers, [out, in], as its weight and weight_scale, [out, 1]; others stay.

    The scale has the model's precision, and the weight is rounded with the scale as it is stored.
    Raises TrainingError for a matrix that holds a NaN or an infinity.
    """
    if not PLAIN_MATRIX.search(name):
        return {name: tensor}
    wide = tensor.float()
    if not wide.isfinite().all():
        raise TrainingError(f"{name} holds a NaN or an infinity: it can't be quantized")
    scale, _ = calculate_qparams(*torch.aminmax(wide, dim=1, keepdim=True), scheme.weights)
    scale = scale.to(tensor.dtype)
    parts = {"weight": wide, "weight_scale": scale.float()}
    made = BaseCompressor.get_value_from_registry(scheme.format).compress(parts, scheme)
    return {name: made["weight"], f"{name}_scale": scale}
