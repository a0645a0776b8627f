"""A check of how a model is quantized before vLLM starts, which would report it from its worker."""

from pathlib import Path

from app.errors import StartupError
from app.files import read_json

CPU_BITS = 4


def check_quantization(model: Path, on_cpu: bool) -> None:
    """Raise StartupError for GPTQ weights that vLLM 0.32 does not compute with on a CPU.

    What else it does not support, such as activation order, vLLM says by itself.
    """
    config = read_json(model / "config.json").get("quantization_config") or {}
    bits = config.get("bits")
    if on_cpu and config.get("quant_method") == "gptq" and bits != CPU_BITS:
        raise StartupError(
            f"{model} has GPTQ weights of {bits} bits; on a CPU, vLLM serves those of {CPU_BITS}:"
            " quantize the original with `training quantize --to int8` instead"
        )
