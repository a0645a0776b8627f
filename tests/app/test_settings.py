import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import StartupError
from app.settings import Settings, read_settings


def test_environment_variables_and_nested_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PORT": "9000",
        "MODEL": "models/other",
        "ADAPTERS": '{"news-v1": "models/news-v1"}',
        "ENGINE__MAX_MODEL_LEN": "4096",
        "ENGINE__ENFORCE_EAGER": "true",
        "ENGINE__GPU_MEMORY_UTILIZATION": "0.5",
        "ENGINE__QUANTIZATION": "fp8",
        "ENGINE__HF_OVERRIDES": '{"a": 1}',
        "LIMITS__MAX_CANDIDATES": "50",
    }.items():
        monkeypatch.setenv(f"FRONTPAGE_{name}", value)
    settings = Settings()
    assert settings.port == 9000
    assert settings.base_name == "other"
    assert settings.adapters == {"news-v1": Path("models/news-v1")}
    assert settings.engine == {
        "max_model_len": 4096,
        "enforce_eager": True,
        "gpu_memory_utilization": 0.5,
        "quantization": "fp8",
        "hf_overrides": {"a": 1},
    }
    assert settings.limits.max_candidates == 50
    assert settings.limits.max_body_bytes == 4 << 20


def test_a_file_lies_below_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "frontpage.json"
    file.write_text('{"port": 1234, "engine": {"max_num_seqs": 7}, "model_name": "news"}')
    monkeypatch.setenv("FRONTPAGE_CONFIG", str(file))
    monkeypatch.setenv("FRONTPAGE_PORT", "4321")
    settings = Settings()
    assert (settings.port, settings.base_name) == (4321, "news")
    assert settings.engine == {"max_num_seqs": 7}


def test_secret_files_lie_between_environment_and_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder may hold more, such as another service's secrets."""
    config, secrets = tmp_path / "frontpage.json", tmp_path / "secrets"
    secrets.mkdir()
    keys = [{"name": "website", "sha256": "0" * 64}]
    (secrets / "frontpage_api_keys").write_text(json.dumps(keys) + "\n")
    (secrets / "frontpage_port").write_text("1")
    (secrets / "grafana_password").write_text("secret")
    config.write_text(json.dumps({"api_keys": [], "port": 3, "log_format": "json"}))
    monkeypatch.setenv("FRONTPAGE_CONFIG", str(config))
    monkeypatch.setenv("FRONTPAGE_SECRETS", str(secrets))
    monkeypatch.setenv("FRONTPAGE_PORT", "2")
    settings = Settings()
    assert [key.name for key in settings.api_keys] == ["website"]
    assert (settings.port, settings.log_format) == (2, "json")
    (secrets / "frontpage_api_keys").write_text("{")
    with pytest.raises(StartupError, match="api_keys"):
        read_settings()


def test_a_missing_folder_of_secrets_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FRONTPAGE_SECRETS", str(tmp_path / "none"))
    with pytest.raises(StartupError, match=r"FRONTPAGE_SECRETS: .*none is not a folder"):
        read_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("PORT", "http", "setting FRONTPAGE_PORT: Input should be a valid integer"),
        ("LIMITS__MAX_CANDIDATES", "0", "FRONTPAGE_LIMITS__MAX_CANDIDATES: .*greater than 0"),
        ("LIMITS__MAX_CANDIDATE", "5", "FRONTPAGE_LIMITS__MAX_CANDIDATE: Extra inputs"),
        ("ADAPTERS", "{", "settings: .*adapters"),
    ],
)
def test_a_bad_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(f"FRONTPAGE_{name}", value)
    with pytest.raises(StartupError, match=complaint):
        read_settings()


def test_an_unknown_key_in_the_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "frontpage.json"
    file.write_text('{"prot": 1234}')
    monkeypatch.setenv("FRONTPAGE_CONFIG", str(file))
    with pytest.raises(StartupError, match="FRONTPAGE_PROT: Extra inputs"):
        read_settings()
