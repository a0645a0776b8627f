"""What goes wrong at start: one clear line and a non-zero exit, before any model is loaded."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.engine import memory
from app.engine.lora import LoraError, read_lora
from app.errors import StartupError
from tests.support.models import ROOT, SMOLLM2
from tests.support.waiting import HANG_S

Started = subprocess.Popen[str]


def begin(**settings: str) -> Started:
    """A service that can't start."""
    names = {f"FRONTPAGE_{name.upper()}": value for name, value in settings.items()}
    return run("-m", "app", **({"FRONTPAGE_PORT": "0"} | names))


def run(*arguments: str, **environment: str) -> Started:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: Started) -> tuple[int, str]:
    """Exit code and the error's text."""
    _, stderr = process.communicate(timeout=HANG_S)
    return process.returncode, stderr


def start(**settings: str) -> tuple[int, str]:
    return ended(begin(**settings))


CORES_AND_COMPILERS = """if True:
    import os
    from app.engine.options import cpu_defaults
    os.environ.pop("VLLM_CPU_NUM_OF_RESERVED_CPU", None)
    for cores in 64, 2:
        os.cpu_count = lambda: cores
        cpu_defaults()
        print(os.environ.get("VLLM_CPU_NUM_OF_RESERVED_CPU"))
    os.environ.pop("TORCH_COMPILE_DISABLE", None)
    for compiler in "sh", "none-such":  # anything that is there
        os.environ["CXX"] = compiler
        cpu_defaults()
        print(os.environ.get("TORCH_COMPILE_DISABLE"))"""


@pytest.fixture(scope="module")
def importing() -> Iterator[dict[str, Started]]:
    """What imports vLLM, which keeps one core busy for seconds: all at once."""
    processes = {
        "unknown option": begin(engine__max_model_length="100", model=str(SMOLLM2)),
        "too little memory": begin(engine__kv_cache_memory_bytes=str(10**15), model=str(SMOLLM2)),
        "cores": run("-c", CORES_AND_COMPILERS),
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate()


def error_line(stderr: str) -> str:
    """The one line that says why; there is no traceback beside it."""
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("frontpage: error: ")]
    assert stderr.strip().endswith(line)
    return line


def test_a_missing_model_folder(tmp_path: Path) -> None:
    code, stderr = start(model=str(tmp_path / "none"))
    assert code == 1
    assert "no model in" in error_line(stderr)
    assert "`make serve` creates the default one" in stderr


def test_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, stderr = start(port=str(other.getsockname()[1]), model=str(SMOLLM2))
    assert code == 1
    assert "can't listen on 127.0.0.1:" in error_line(stderr)
    assert "Address already in use" in stderr


def test_a_bad_setting() -> None:
    code, stderr = start(port="99999")
    assert code == 1
    assert "FRONTPAGE_PORT" in error_line(stderr)


def test_an_unknown_engine_option_is_named(importing: dict[str, Started]) -> None:
    code, stderr = ended(importing["unknown option"])
    assert code == 1
    assert "'max_model_length' is not one of vLLM's" in error_line(stderr)
    assert "did you mean 'max_model_len'" in stderr


def test_few_cores_and_no_compiler(importing: dict[str, Started]) -> None:
    stdout, stderr = importing["cores"].communicate(timeout=HANG_S)
    assert stdout.split() == ["None", "0", "None", "1"], stderr


def test_too_little_memory(importing: dict[str, Started]) -> None:
    code, stderr = ended(importing["too little memory"])
    assert code == 1
    assert "not enough memory: " in error_line(stderr)
    assert "KV_CACHE_MEMORY_BYTES" in stderr


def test_an_adapter_that_is_none(tmp_path: Path) -> None:
    code, stderr = start(adapters=json.dumps({"a": str(tmp_path)}), model=str(SMOLLM2))
    assert code == 1
    assert "holds no adapter_config.json" in error_line(stderr)


def test_the_containers_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: memory.GIB)
    with pytest.raises(StartupError, match=r"2\.\d GiB needed .* 1\.0 GiB free"):
        memory.check_memory(SMOLLM2, {"kv_cache_memory_bytes": memory.GIB}, on_cpu=True)
    memory.check_memory(SMOLLM2, {"kv_cache_memory_bytes": memory.GIB}, on_cpu=False)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING adapter, not LORA"),
        ({"peft_type": "LORA", "r": 8, "use_dora": True}, "use_dora"),
        ({"peft_type": "LORA", "r": 0}, "r is 0, not a rank"),
        ({"peft_type": "LORA", "r": 1024}, "r is 1024, not a rank"),
    ],
)
def test_adapters_that_vllm_cannot_serve(
    tmp_path: Path, config: dict[str, object], complaint: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(LoraError, match=complaint):
        read_lora(tmp_path)


def test_half_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(LoraError, match="not JSON"):
        read_lora(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    with pytest.raises(LoraError, match=r"no adapter_model\.safetensors"):
        read_lora(tmp_path)


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    shutil.copy(SMOLLM2 / "config.json", tmp_path)
    code, stderr = start(model=str(tmp_path))
    assert code == 1
    assert "holds no tokenizer.json, which the service needs" in error_line(stderr)
