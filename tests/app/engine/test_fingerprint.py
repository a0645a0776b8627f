"""Fingerprints cover all of the weights and nothing else; the cache never outlives them."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.engine import fingerprint as module
from app.engine.fingerprint import (
    fingerprint,
    is_fingerprint_of,
    sampled_fingerprint,
)
from app.engine.lora import LoraError
from app.engine.weights import FINGERPRINT_FILE, INDEX_FILE, side_files

GENERATOR = torch.Generator().manual_seed(0)
WEIGHTS = {
    "layers.0.weight": torch.randn(300, 400, generator=GENERATOR),
    "layers.1.weight": torch.randn(300, 400, generator=GENERATOR).bfloat16(),
    "norm.weight": torch.ones(1, 400),
}


def one_file(folder: Path, weights: dict[str, Tensor], **metadata: str) -> Path:
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata=metadata)
    return folder


def shards(folder: Path, *names: list[str]) -> Path:
    folder.mkdir()
    placed: dict[str, str] = {}
    for number, part in enumerate(names):
        file = f"part-{number}.safetensors"
        save_file({name: WEIGHTS[name] for name in part}, folder / file)
        placed |= dict.fromkeys(part, file)
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": placed}))
    return folder


def test_the_files_do_not_matter(tmp_path: Path) -> None:
    """The same tensors in one file, with other metadata, and in shards of any order."""
    first, second, norm = WEIGHTS
    found = {
        fingerprint(one_file(tmp_path / "plain", WEIGHTS)),
        fingerprint(one_file(tmp_path / "noted", WEIGHTS, format="pt", by="another program")),
        fingerprint(shards(tmp_path / "two", [norm, second], [first])),
        fingerprint(shards(tmp_path / "three", [second], [norm], [first])),
    }
    assert len(found) == 1
    assert found.pop().startswith("sha256-tensors:")


def changed() -> dict[str, dict[str, Tensor]]:
    first, second, norm = WEIGHTS.values()
    middle = first.clone()
    middle[150, 200] += 1e-6
    names = list(WEIGHTS)
    return {
        "one number in the middle": WEIGHTS | {names[0]: middle},
        "shape": WEIGHTS | {names[2]: norm.view(400)},
        "dtype, same bytes": WEIGHTS | {names[1]: second.view(torch.float16)},
        "names swapped": {names[0]: second, names[1]: first, names[2]: norm},
        "a name": {names[0]: first, "layers.2.weight": second, names[2]: norm},
        "one less": {names[0]: first, names[1]: second},
    }


@pytest.mark.parametrize("what", changed())
def test_any_change_of_the_weights_is_seen(what: str, tmp_path: Path) -> None:
    other = one_file(tmp_path / "other", changed()[what])
    assert fingerprint(other) != fingerprint(one_file(tmp_path / "plain", WEIGHTS))


def test_it_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process by its memory, and in the next one by the file."""
    folder = one_file(tmp_path / "model", WEIGHTS)
    found = fingerprint(folder)
    with monkeypatch.context() as patch:
        patch.setattr(module, "hash_tensors", lambda files: pytest.fail("computed again"))
        assert fingerprint(folder) == found
        patch.setattr(module, "_known", {})
        assert fingerprint(folder) == found
    assert side_files(folder) == []  # so no merge copies it

    weights = load_file(folder / "model.safetensors")
    weights["norm.weight"] += 1
    save_file(weights, folder / "model.safetensors")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert fingerprint(folder) != found
    for text in ("", "[]", '{"files": []}'):
        (folder / FINGERPRINT_FILE).write_text(text)
        monkeypatch.setattr(module, "_known", {})
        assert fingerprint(folder) != found


def test_a_folder_that_cant_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    folder = one_file(tmp_path / "model", WEIGHTS)
    monkeypatch.setattr(module, "write_whole", refuse)
    found = fingerprint(folder)
    assert not (folder / FINGERPRINT_FILE).exists()
    monkeypatch.setattr(module, "hash_tensors", lambda files: pytest.fail("computed again"))
    assert fingerprint(folder) == found


def test_those_of_earlier_versions_are_judged_by_their_own_rule(tmp_path: Path) -> None:
    folder = one_file(tmp_path / "model", WEIGHTS)
    other = one_file(tmp_path / "other", {name: -tensor for name, tensor in WEIGHTS.items()})
    assert is_fingerprint_of(folder, fingerprint(folder))
    assert is_fingerprint_of(folder, sampled_fingerprint(folder))
    assert not is_fingerprint_of(other, fingerprint(folder))
    assert not is_fingerprint_of(other, sampled_fingerprint(folder))


@pytest.mark.parametrize("content", [b"", b"\x08", b"\x02" + bytes(7) + b"[]", b"\xff" * 20])
def test_weights_that_cant_be_read_are_one_line(content: bytes, tmp_path: Path) -> None:
    folder = shards(tmp_path / "model", list(WEIGHTS))
    (folder / "part-0.safetensors").write_bytes(content)
    with pytest.raises(LoraError, match=r"part-0.safetensors can't be read"):
        fingerprint(folder)
