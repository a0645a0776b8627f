"""One experiment's options, read from a YAML file. Names are LLaMA-Factory's where it has them.

Other options of transformers' TrainingArguments and of PEFT's configurations go under `trainer:`
and `peft:`, and are passed on unchanged.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from app.scoring.profile import ORIGINAL, Profile
from app.scoring.wording import is_chat
from training.errors import TrainingError
from training.tuning.llama_factory import Translation, translate

LORA_TARGET = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class FinetuneConfig:
    """Every option of `finetune`, with its default."""

    method: Literal["lora", "qlora", "full", "p_tuning", "adapter"] = "lora"

    # The prompt; it is written to profile.json, and serving follows it.
    layout: str | dict[str, Any] = "tight"  # a built-in layout's name, or a whole layout
    history: NonNegativeInt = 20  # how many stories; likewise the next two
    liked: NonNegativeInt = 5
    disliked: NonNegativeInt = 5
    no_think: bool = False
    # The wording of a chat that the model learns to answer too, from a share of the impressions.
    # None: the original project's if `layout` is none that a chat can have, else `layout` alone.
    chat_layout: str | dict[str, Any] | None = None
    chat_share: Share = 0.1
    # Tokens: what candidates share is filled up to a multiple of this. None: 32, but 1 for the
    # original project's layout.
    prefix_multiple: PositiveInt | None = None
    # The share of impressions learned without categories, for clients that know few of them.
    category_dropout: Share = 0.0
    cutoff_len: PositiveInt = 1024  # tokens of a prompt with its answer
    # A candidate whose title is too long for that: its title is cut, or it is not trained on.
    long_titles: Literal["cut", "skip"] = "cut"

    # The data.
    max_samples: PositiveInt | None = None  # candidates to train on
    val_size: NonNegativeFloat = 500  # how many validation impressions, or what share
    packing: Literal["shared", "samples", "none"] = "shared"
    row_tokens: PositiveInt = 2048  # length of a packed row

    # What is learned.
    objective: Literal["sft", "label"] = "label"
    mass_weight: NonNegativeFloat = 0.3  # label: weight of the cross-entropy beside it
    click_weight: PositiveFloat = 1.0  # how much more a clicked candidate's answer counts

    # Training. Batches are counted in rows.
    per_device_train_batch_size: PositiveInt = 1
    per_device_eval_batch_size: PositiveInt = 2
    gradient_accumulation_steps: PositiveInt = 8
    learning_rate: PositiveFloat = 2e-4
    num_train_epochs: PositiveFloat = 2.0
    lr_scheduler_type: str = "cosine"
    warmup_ratio: Share = 0.1
    optim: str = "adamw_torch_fused"
    # Matrix products in bfloat16. None: on a GPU; auto: also on a CPU that has instructions for it.
    bf16: bool | Literal["auto"] | None = None
    gradient_checkpointing: bool = False
    eval_steps: PositiveFloat = 0.25  # steps, or below 1 a share of all; likewise the next
    save_steps: PositiveFloat = 0.25
    logging_steps: PositiveFloat = 5
    plot_loss: bool = True
    seed: int = 42

    # Methods.
    lora_rank: PositiveInt = 8
    lora_alpha: PositiveInt = 16
    lora_dropout: Share = 0.0
    # A list, or a text such as "q_proj,v_proj", or "all" for every matrix but the head.
    lora_target: str | tuple[str, ...] = LORA_TARGET
    adapter_name_or_path: str | None = None  # lora, qlora: go on from this adapter's folder
    quantization_bit: Literal[4, 8] = 4  # qlora
    quantization_type: Literal["nf4", "fp4"] = "nf4"
    double_quantization: bool = True
    num_virtual_tokens: PositiveInt = 20  # p_tuning
    prefix_projection: bool = False
    prefix_hidden_size: PositiveInt | None = None  # None: the model's own hidden size
    adapter_size: PositiveInt = 64  # adapter: width of the bottleneck

    # The machine.
    # Of the base's weights while training. auto: bfloat16 on a GPU or with bf16, but float32 for
    # method full.
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Literal["auto", "sdpa", "flex_attention"] = "auto"
    compile: bool | None = None  # torch.compile each layer; None: on a GPU, if it helps there

    # After training.
    calibration_impressions: NonNegativeInt | None = None  # None: the whole validation split
    threshold: Literal["balanced", "chat"] = "balanced"

    trainer: dict[str, Any] = Field(default_factory=dict)
    peft: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def check_together(self) -> "FinetuneConfig":
        if self.row_tokens < self.cutoff_len:
            raise ValueError(f"row_tokens must be at least cutoff_len ({self.cutoff_len})")
        if self.method == "p_tuning" and self.gradient_checkpointing:
            raise ValueError(
                "gradient_checkpointing drops the prefix that p_tuning learns: set it to false"
            )
        if self.compile and self.method in ("p_tuning", "qlora"):
            raise ValueError(f"compile does not work with {self.method}: set it to false")
        if self.adapter_name_or_path and self.method not in ("lora", "qlora"):
            raise ValueError(f"adapter_name_or_path does not work with {self.method}")
        self.profile()
        return self

    def profile(self, **known: str) -> Profile:
        """How prompts are built. known: other fields of the profile, such as base_model. Raises
        ValueError."""
        found = Profile.model_validate(
            {
                "layout": self.layout,
                "chat_layout": self.chat_layout,
                "no_think": self.no_think,
                "history": self.history,
                "liked": self.liked,
                "disliked": self.disliked,
                "prefix_multiple": self.prefix_multiple or (1 if self.layout == "original" else 32),
                **known,
            }
        )
        if not self.chat_share:
            return found.model_copy(update={"chat_layout": None})
        if found.chat_layout is None and not is_chat(found.layout):
            return found.model_copy(update={"chat_layout": ORIGINAL})
        if found.chat_layout is not None and not is_chat(found.chat_layout):
            raise ValueError(f"chat_layout: {found.chat_layout.name} is not a chat")
        return found


class NumbersLoader(yaml.SafeLoader):
    """Reads 1e-2 as a number, as YAML 1.2 does; YAML 1.1 wants 1.0e-2."""


NumbersLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load_yaml(text: str) -> Any:
    """Raises yaml.YAMLError."""
    return yaml.load(text, NumbersLoader)


def read_config(file: Path, settings: Sequence[str] = ()) -> FinetuneConfig:
    """The options of a YAML file alone; see read_options and make_config. Raises TrainingError."""
    return make_config(file, read_options(file, settings).options)


def read_options(file: Path, settings: Sequence[str] = ()) -> Translation:
    """Read a YAML file of ours or of LLaMA-Factory. settings: `name=value` each, which override the
    file's options; `trainer.name=value` reaches into a mapping.

    Raises TrainingError naming the file and all options that can't be used.
    """
    try:
        options = load_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise TrainingError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise TrainingError(f"{file} must hold `option: value` lines")
    for setting in settings:
        options = with_setting(options, setting)
    found = translate(options, (field.name for field in fields(FinetuneConfig)))
    if found.problems:
        raise TrainingError(f"{file}: {', and '.join(found.problems)}")
    return found


def make_config(file: Path, options: Mapping[str, Any]) -> FinetuneConfig:
    """The options, checked. Raises TrainingError naming the file and all that can't be used."""
    try:
        return TypeAdapter(FinetuneConfig).validate_python(options)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for one in error.errors():
            name = ".".join(str(part) for part in one["loc"][:1])
            reason = one["msg"].removeprefix("Value error, ")
            problems.setdefault(name, f"{name}{': ' * bool(name)}{reason}")
        raise TrainingError(f"{file}: {', and '.join(problems.values())}") from None


def with_setting(options: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """The options, with one overridden by `name=value`. Raises TrainingError."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise TrainingError(f"--set {setting}: write it as name=value")
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        raise TrainingError(f"--set {setting}: the value is not YAML") from None
    return replace_at(options, path.split("."), value, setting)


def replace_at(
    options: Mapping[str, Any], path: Sequence[str], value: object, setting: str
) -> dict[str, Any]:
    """The options, with the value at `path` replaced, through mappings in mappings."""
    name, *inner = path
    if not inner:
        return {**options, name: value}
    mapping = options.get(name, {})
    if not isinstance(mapping, dict):
        raise TrainingError(f"--set {setting}: {name} is not a mapping")
    return {**options, name: replace_at(mapping, inner, value, setting)}


def check_known(where: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise TrainingError for the first unknown option, suggesting the closest known one."""
    known = set(known)
    for option in options:
        if option not in known:
            close = get_close_matches(str(option), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TrainingError(f"{where}: unknown option {option!r}{hint}")
