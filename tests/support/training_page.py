"""The blocks of pages on training, and how they run: small data, a tiny model, one shell."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

from loadtests.services import free_port
from tests.support.models import MIND, ROOT, qwen3_tokenizer_files
from tests.support.tiny_training import make_tiny

PAGE = ROOT / "docs" / "training.md"


class Block(NamedTuple):
    language: str
    mark: str
    text: str


def blocks(page: Path = PAGE) -> list[Block]:
    found = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [Block(*one) for one in found]


def shell(page: Path) -> tuple[dict[str, str], list[str]]:
    """The variables of the first block with their usual values, and the blocks to run."""
    every = [block.text for block in blocks(page) if block.language == "sh" and not block.mark]
    first, *rest = every
    variables = dict(word.split("=", 1) for word in shlex.split(first, comments=True))
    return variables, rest


def make_repository(root: Path) -> None:
    """The repository as a reader has it, with nothing in models/, data/ and runs/ yet."""
    for name in ("app", "training", "configs"):
        (root / name).symlink_to(ROOT / name)
    for name, split in (("train", "train"), ("dev", "val")):
        shutil.copytree(MIND / split, root / "mind" / name)
    make_servable(root / "models" / "tiny")


def make_servable(folder: Path) -> None:
    """The tiny Qwen3, with a chat template."""
    folder.mkdir(parents=True)
    make_tiny(folder, heads=2)
    file = folder / "tokenizer_config.json"
    chat = json.loads((qwen3_tokenizer_files() / "tokenizer_config.json").read_bytes())
    config = json.loads(file.read_bytes()) | {"chat_template": chat["chat_template"]}
    file.write_text(json.dumps(config))


def script(page: Path = PAGE, **places: str) -> str:
    """The commands, all in one shell that stops at the first that fails. places: values of the
    page's variables, beside those of the model and the port."""
    usual, commands = shell(page)
    values = (places or {"MIND": "mind", "DATA": "data/mind"}) | {
        "MODEL": "models/tiny",
        "PORT": str(free_port()),
    }
    assert usual.keys() == values.keys()
    lines = [
        "PS4='+ $SECONDS s: '",
        "set -euxo pipefail",
        "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
    ]
    lines += [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    return "\n".join([*lines, *commands])
