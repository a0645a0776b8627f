"""LLaMA-Factory's options: those that ours mean too, those without meaning here, and the rest.

Its file is one level deep: options of transformers' trainer and of LoRA stand beside its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from training.tuning.options import PLACES

ARGUMENTS = {name: argument for argument, name in PLACES.items()}
"""Options that are arguments of our command."""
RENAMED = {
    "pre_seq_len": "num_virtual_tokens",
    "additional_target": "peft.modules_to_save",
    "use_rslora": "peft.use_rslora",
    "use_dora": "peft.use_dora",
}
METHODS = {"lora": "lora", "full": "full", "p_tuning": "p_tuning", "adapter": "adapter"}
"""finetuning_type, as our method. lora with quantization_bit is qlora."""
MEANINGLESS = """
    template dataset eval_dataset overwrite_cache overwrite_output_dir preprocessing_num_workers
    preprocessing_batch_size mix_strategy interleave_probs streaming buffer_size tokenized_path
    data_shared_file_system ignore_pad_token_for_loss mask_history eval_on_each_dataset
    default_system tool_format media_dir cache_dir use_fast_tokenizer split_special_tokens
    trust_remote_code model_revision hf_hub_token ms_hub_token om_hub_token low_cpu_mem_usage
    quantization_device_map flash_attn use_unsloth enable_liger_kernel use_cache
    upcast_layernorm upcast_lmhead_output infer_backend infer_dtype offload_folder
    print_param_status do_eval do_predict predict_with_generate adapter_folder
    max_new_tokens top_p top_k temperature num_beams do_sample
    include_effective_tokens_per_second compute_accuracy disable_shuffling export_dir
    export_size export_device export_legacy_format export_quantization_bit
    export_quantization_dataset export_hub_model_id use_swanlab
"""
"""Options that change nothing of what is learned here."""
OFF_ONLY = """
    create_new_adapter resize_vocab new_special_tokens add_tokens add_special_tokens
    rope_scaling shift_attn mixture_of_depths moe_aux_loss_coef train_on_prompt use_llama_pro
    use_galore use_apollo use_badam use_adam_mini use_muon loraplus_lr_ratio pissa_init
    pissa_convert freeze_trainable_layers freeze_trainable_modules freeze_extra_modules
    use_dft_loss resume_from_checkpoint ref_model reward_model
"""
"""Options that can't be done here, and have no meaning while they are off."""
ALLOWED: dict[str, tuple[Any, ...]] = {
    "stage": ("sft",),
    "do_train": (True,),
    "finetuning_type": tuple(METHODS),
    "quantization_method": ("bitsandbytes", "bnb"),
}
"""Options of which only some values can be done here."""
ROW_TOKENS = 2048
"""Our default; LLaMA-Factory has no such option, so longer prompts raise it."""
OWN = {
    *ARGUMENTS,
    *RENAMED,
    *MEANINGLESS.split(),
    *OFF_ONLY.split(),
    *ALLOWED,
    "pure_bf16",
    "enable_thinking",
}
"""Names that no file of ours has."""


@dataclass(frozen=True, slots=True)
class Translation:
    """options: under our names. places: of our command's arguments model, data and output. ignored:
    names of options without meaning here. problems: what can't be done, and why."""

    options: dict[str, Any]
    places: dict[str, str]
    ignored: list[str]
    problems: list[str]


def translate(given: Mapping[str, Any], ours: Iterable[str]) -> Translation:
    """Read a file's options. ours: the names of our own, which pass as they are."""
    found = Translation({}, {}, [], [])
    ours = set(ours)
    others = {name: value for name, value in given.items() if name not in ours}
    found.options.update({name: value for name, value in given.items() if name in ours})
    if not others:
        return found
    trainer = trainer_options()
    for name, value in others.items():
        if name in OWN:
            read_own(name, value, found)
        elif name in trainer:
            is_no = name.endswith("_strategy") and value is False  # YAML's reading of `no`
            put(found.options, f"trainer.{name}", "no" if is_no else value)
        else:
            close = get_close_matches(str(name), ours | OWN | trainer, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            found.problems.append(f"unknown option {name!r}{hint}")
    if OWN & others.keys():
        read_common(found.options)
    return found


def trainer_options() -> set[str]:
    """The names of the options of transformers' trainer."""
    from transformers import TrainingArguments  # takes seconds, and few files need it

    return {field.name for field in fields(TrainingArguments)}


def read_own(name: str, value: Any, found: Translation) -> None:
    """Add one option that only LLaMA-Factory has to what was found."""
    if name in ARGUMENTS:
        found.places[ARGUMENTS[name]] = str(value)
    elif name in RENAMED:
        is_list = name == "additional_target" and isinstance(value, str)
        names = [part.strip() for part in value.split(",")] if is_list else value
        put(found.options, RENAMED[name], names)
    elif name in OFF_ONLY.split() and value:
        found.problems.append(f"{name} is not supported")
    elif name in ALLOWED and value not in ALLOWED[name]:
        can_be = " or ".join(str(one).lower() for one in ALLOWED[name])
        found.problems.append(f"{name} {value} is not supported, only {can_be}")
    elif name == "finetuning_type":
        found.options.setdefault("method", METHODS[value])
    elif name == "pure_bf16":
        found.options.setdefault("dtype", "bfloat16" if value else "auto")
    elif name == "enable_thinking":
        found.options.setdefault("no_think", not value)
    elif name not in ALLOWED:
        found.ignored.append(name)


def read_common(options: dict[str, Any]) -> None:
    """Read options whose names are ours as well, as LLaMA-Factory means them: null stands for a
    default."""
    for name in [name for name, value in options.items() if value is None]:
        del options[name]
    if "quantization_bit" in options and options.get("method", "lora") == "lora":
        options["method"] = "qlora"
    if isinstance(longest := options.get("cutoff_len"), int) and "row_tokens" not in options:
        options["row_tokens"] = max(longest, ROW_TOKENS)
    if isinstance(options.get("packing"), bool):
        options["packing"] = "samples" if options["packing"] else "none"
    if options.get("trainer", {}).get("fp16"):
        options.setdefault("bf16", False)


def put(options: dict[str, Any], path: str, value: Any) -> None:
    """Set an option, perhaps inside a mapping, unless the file has it under our name."""
    name, _, inner = path.partition(".")
    if not inner:
        options.setdefault(name, value)
    elif isinstance(mapping := options.get(name, {}), dict):
        options[name] = {inner: value, **mapping}
