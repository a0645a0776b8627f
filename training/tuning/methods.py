"""The methods lora, qlora, full, p_tuning and adapter: a trainable model, its files, and back."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from app.engine import lora
from app.files import first_line
from app.scoring.profile import PROFILE_FILE
from training.errors import TrainingError
from training.folders import copy_side_files, read_json
from training.memory import check_weights
from training.packed.objective import accept_packed_rows
from training.tuning import bottleneck
from training.tuning.checks import check_targets, check_window
from training.tuning.config import FinetuneConfig
from training.tuning.sources import read_profile

TRAINABLE_FILE = "trainable.safetensors"
"""In a checkpoint, what is trained, to resume from."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model is trained. on_gpu: whether that is a GPU. device: where the base is loaded;
    None for main memory (FSDP and DeepSpeed move the model themselves). autocast: whether matrix
    products run in bfloat16."""

    on_gpu: bool = False
    device: torch.device | None = None
    autocast: bool = False


def load_base(
    folder: Path,
    dtype: torch.dtype | str = "auto",
    attention: str = "sdpa",
    quantization: BitsAndBytesConfig | None = None,
    device: torch.device | str | None = None,
) -> PreTrainedModel:
    """Load a base or merged model that takes packed rows. dtype "auto": as its weights are stored.

    Raises TrainingError for a folder that holds no model, and where main memory is too short.
    """
    if not (folder / "config.json").is_file():
        raise TrainingError(
            f"{folder} holds no config.json: not a model folder; see python -m training download -h"
        )
    if torch.device(device or "cpu").type == "cpu" and quantization is None:
        check_weights(folder, dtype)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": attention}
    if quantization is not None:
        options["quantization_config"] = quantization
    if device is not None or quantization is not None:
        options["device_map"] = {"": device or "cpu"}
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, **options
        )
    except (OSError, ValueError, ImportError) as error:
        raise TrainingError(f"{folder} can't be loaded: {first_line(error)}") from error
    accept_packed_rows(model)
    return model


def create(config: FinetuneConfig, base: Path, place: Placement) -> Any:
    """Load the base model and add the method's trainable parts; the rest is frozen.

    Returns a PreTrainedModel (full, adapter) or a PeftModel (the other methods).
    """
    wanted = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(config.dtype)
    half = (place.on_gpu or place.autocast) and config.method != "full"
    dtype = wanted or (torch.bfloat16 if half else torch.float32)
    attention = config.attention
    if attention == "auto":
        packed = config.packing != "none"
        attention = "flex_attention" if place.on_gpu and packed else "sdpa"
    quantization = quantize(config, dtype) if config.method == "qlora" else None
    model = load_base(base, dtype, attention, quantization, place.device)
    check_window(model, config)
    helps = place.on_gpu and config.method not in ("p_tuning", "qlora") and config.packing != "none"
    if helps if config.compile is None else config.compile:
        for layer in model.get_decoder().layers:
            layer.compile()
    if config.method == "full":
        return model
    if config.method == "adapter":
        bottleneck.insert(model, config.adapter_size)
        return model
    tuned = with_peft(model, config, place.autocast)
    if config.adapter_name_or_path:
        go_on_from(tuned, Path(config.adapter_name_or_path), base, config)
    return tuned


def quantize(config: FinetuneConfig, dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's settings (Dettmers et al. 2023), or LLM.int8()."""
    if config.quantization_bit == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization_type,
        bnb_4bit_use_double_quant=config.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )


def with_peft(model: PreTrainedModel, config: FinetuneConfig, autocast: bool) -> Any:
    """The model in PEFT's wrapper. Raises TrainingError for options that PEFT refuses."""
    try:
        if config.method == "p_tuning":
            settings: Any = PrefixTuningConfig(
                task_type="CAUSAL_LM",
                num_virtual_tokens=config.num_virtual_tokens,
                prefix_projection=config.prefix_projection,
                encoder_hidden_size=config.prefix_hidden_size or model.config.hidden_size,
                **config.peft,
            )
        else:
            target = config.lora_target
            if isinstance(target, str) and target != "all":
                target = tuple(part.strip() for part in target.split(","))
            check_targets(model, target, config.peft)
            settings = LoraConfig(
                task_type="CAUSAL_LM",
                r=config.lora_rank,
                lora_alpha=config.lora_alpha,
                lora_dropout=config.lora_dropout,
                target_modules="all-linear" if target == "all" else list(target),
                **config.peft,
            )
        tuned = get_peft_model(model, settings)
    except (ValueError, TypeError) as error:
        raise TrainingError(f"method {config.method}: {first_line(error)}") from error
    for module in tuned.modules():
        if autocast and hasattr(module, "cast_input_dtype_enabled"):
            # PEFT would cast each input to float32, and autocast back: that only moves memory.
            module.cast_input_dtype_enabled = False
    return tuned


def go_on_from(model: PeftModel, folder: Path, base: Path, config: FinetuneConfig) -> None:
    """Start with an adapter's weights. Raises LoraError for one of another base, and TrainingError
    for one that was trained with other options of LoRA or another layout of the prompt."""
    trained = read_json(folder / lora.CONFIG_FILE)
    for name, option in (("r", "lora_rank"), ("lora_alpha", "lora_alpha")):
        if trained.get(name) != getattr(config, option):
            raise TrainingError(
                f"adapter_name_or_path: {folder} has {option} {trained.get(name)}, not"
                f" {getattr(config, option)}"
            )
    has_profile = (folder / PROFILE_FILE).is_file()
    if has_profile and read_profile(folder).layout != config.profile().layout:
        raise TrainingError(f"adapter_name_or_path: {folder} was trained with another layout")
    adapter = lora.LoraAdapter(folder, trained)
    lora.check_fit(adapter, base)
    lora.check_finite(adapter)
    tensors = {
        lora.PREFIX + name.removeprefix(lora.PREFIX): tensor
        for name, tensor in load_file(folder / lora.WEIGHTS_FILE).items()
    }
    own = get_peft_model_state_dict(model)
    if unlike := sorted(own.keys() ^ tensors.keys()):
        raise TrainingError(
            f"adapter_name_or_path: {folder} was trained on other matrices: {unlike[0]}"
        )
    try:
        set_peft_model_state_dict(model, tensors)
    except RuntimeError as error:
        raise TrainingError(
            f"adapter_name_or_path: {folder} does not fit: {first_line(error)}"
        ) from error


def trainable(model: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def operations_per_token(model: Any) -> int:
    """Floating-point operations of the layers' matrix products in one training step: for each
    weight two forward, two back through it, and two for its own gradient if it is trained."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    linear = (m for m in inner.get_decoder().modules() if isinstance(m, torch.nn.Linear))
    return sum(m.in_features * m.out_features * (6 if is_trained(m) else 4) for m in linear)


def is_trained(module: torch.nn.Module) -> bool:
    """Whether the module has parameters of its own that are trained."""
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def check_finite(state: dict[str, Tensor]) -> None:
    """Raise TrainingError for tensors of which one holds a NaN or an infinity."""
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise TrainingError(f"training has diverged: {name} holds a NaN or an infinity")


def save_trainable(state: dict[str, Tensor], folder: Path) -> None:
    """Write what is trained, in its own precision, to resume from."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / TRAINABLE_FILE)


def load_trainable(model: torch.nn.Module, folder: Path) -> None:
    """Load into the model what save_trainable wrote. Raises TrainingError where the saved
    parameters are not those being trained."""
    saved, own = load_file(folder / TRAINABLE_FILE), trainable(model)
    for name in sorted(saved.keys() | own.keys()):
        if name not in saved or name not in own or saved[name].shape != own[name].shape:
            raise TrainingError(
                f"{folder} can't be resumed: {name} differs, so it was trained with other options"
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def save(
    model: Any, folder: Path, base: Path, method: str, state: dict[str, Tensor] | None = None
) -> None:
    """Write what serving reads: a PEFT adapter, a bottleneck adapter, or a whole model.

    state: the model's tensors, if the model itself does not hold them whole (FSDP, DeepSpeed).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if method == "adapter":
        bottleneck.save(model, folder, base.name)
    elif method == "full":
        save_model(model, folder, base, state)
    else:
        model.peft_config["default"].base_model_name_or_path = base.name
        # Without this, PEFT warns of layers it would look up on the network; none are trained here.
        model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)


def save_model(
    model: PreTrainedModel, folder: Path, base: Path, state: dict[str, Tensor] | None
) -> None:
    """Write a whole model in its base's precision, with the base's tokenizer."""
    config = read_json(base / "config.json")
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    state = model.state_dict() if state is None else state
    model.config.dtype = dtype
    model.save_pretrained(folder, state_dict={name: t.to(dtype) for name, t in state.items()})
    copy_side_files(base, folder)


def is_whole_model(folder: Path) -> bool:
    """Whether the folder is no adapter's."""
    return not any((folder / name).is_file() for name in (lora.CONFIG_FILE, bottleneck.CONFIG_FILE))


def load_trained(
    folder: Path,
    base: Path | None = None,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str | None = None,
) -> Any:
    """Load what `save` wrote, ready to score. base: the model that an adapter belongs to.

    Raises LoraError or TrainingError where the adapter and the base don't fit.
    """
    if is_whole_model(folder):
        return load_base(folder, dtype, device=device).eval()
    if base is None:
        raise TrainingError(f"{folder} is an adapter: name its base model with --base")
    if (folder / bottleneck.CONFIG_FILE).is_file():
        model = load_base(base, dtype, device=device)
        bottleneck.load(model, folder)
        return model.eval()
    config = read_json(folder / lora.CONFIG_FILE)
    if config.get("peft_type") == "LORA" and not config.get("use_dora"):
        lora.check_fit(lora.LoraAdapter(folder, config), base)
        lora.check_finite(lora.LoraAdapter(folder, config))
    try:
        return add_adapter(load_base(base, dtype, device=device), folder)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"{folder} does not fit {base}: {first_line(error)}") from error


def add_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The base model with an adapter as PEFT writes it, or as others write LoRA. Raises
    TrainingError, RuntimeError and ValueError where the two don't fit."""
    with warnings.catch_warnings():
        # Of LoRA, whatever PEFT misses, load_unprefixed loads.
        warnings.filterwarnings("ignore", "Found missing adapter keys.*lora_")
        tuned = PeftModel.from_pretrained(model, folder)
    load_unprefixed(tuned, folder, "default")
    return tuned


def load_unprefixed(model: PeftModel, folder: Path, name: str) -> None:
    """Load those tensors of a LoRA adapter that PEFT has left out, because their names lack its
    prefix. name: the adapter's in the model. Raises TrainingError for tensors of other modules."""
    file = folder / lora.WEIGHTS_FILE
    if model.peft_config[name].peft_type != "LORA" or not file.is_file():
        return
    tensors = load_file(file)
    if any(not key.startswith(lora.PREFIX) for key in tensors):
        usual = {lora.PREFIX + key.removeprefix(lora.PREFIX): t for key, t in tensors.items()}
        unknown = set_peft_model_state_dict(model, usual, name).unexpected_keys
        if unknown:
            raise TrainingError(f"{folder} does not fit: its configuration leaves out {unknown[0]}")


def best_device() -> str:
    """A GPU if there is one, as PyTorch names devices."""
    return "cuda" if torch.cuda.is_available() else "cpu"
