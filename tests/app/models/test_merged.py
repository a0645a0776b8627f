"""The setting `merged`; what it serves is in tests/integration/test_lora.py."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.errors import StartupError
from app.models.merged import hold, merge_if_asked, merge_key, remove_unused
from app.scoring.profile import load_profile
from app.settings import Settings
from tests.support.adapter_folders import write_adapter
from tests.support.models import ROOT, SMOLLM2


def settings(tmp_path: Path, **changes: Any) -> Settings:
    adapters = {"news": tmp_path / "news"}
    fields: dict[str, Any] = {
        "model": SMOLLM2,
        "state": tmp_path / "state",
        "merged": True,
        "adapters": adapters,
    }
    return Settings(**(fields | changes))


def test_merged_once_and_served_by_the_adapters_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_adapter(tmp_path / "news", history=7)
    found = merge_if_asked(settings(tmp_path))
    assert found.base_name == "news"
    assert found.adapters == {}
    assert load_profile(found.model).history == 7
    assert (found.model / "model.safetensors").stat().st_size > 200_000_000
    made = (found.model / "config.json").stat().st_mtime_ns
    assert merge_if_asked(settings(tmp_path)) == found
    assert (found.model / "config.json").stat().st_mtime_ns == made


def test_whatever_shapes_the_result_makes_another_merge(tmp_path: Path) -> None:
    """Each file that a merge reads, changed in turn; and one that it does not read."""
    base = tmp_path / "base"
    base.mkdir()
    for file in SMOLLM2.iterdir():
        (base / file.name).symlink_to(file.resolve())
    adapter = write_adapter(tmp_path / "news", history=7)
    keys = [merge_key(base, adapter)]

    def edit(file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert old in text
        file.unlink()
        file.write_text(text.replace(old, new))
        keys.append(merge_key(base, adapter))

    edit(adapter / "profile.json", "7", "8")  # as calibrate does
    edit(adapter / "adapter_config.json", '"lora_alpha": 16', '"lora_alpha": 32')
    edit(base / "config.json", "100000", "100001")  # rope_theta
    edit(base / "chat_template.jinja", "<|im_start|>", "<|im_end|>")
    edit(base / "generation_config.json", "{", "{ ")
    write_adapter(tmp_path / "other", rank=4)
    (adapter / "adapter_model.safetensors").write_bytes(
        (tmp_path / "other" / "adapter_model.safetensors").read_bytes()
    )
    keys.append(merge_key(base, adapter))
    (adapter / "ranker.json").write_text("{}")  # as training rank does
    keys.append(merge_key(base, adapter))
    assert len(set(keys)) == len(keys)
    (adapter / "trainer_log.jsonl").write_text("{}")
    assert merge_key(base, adapter) == keys[-1]


def make_merges(folder: Path, count: int) -> list[Path]:
    """The oldest first."""
    made = [folder / f"old-{number:012x}" for number in range(count)]
    for number, one in enumerate(made):
        one.mkdir(parents=True)
        (one / "config.json").write_text("{}")
        (one / "model.safetensors").write_bytes(b"0" * 100)
        os.utime(one, (number, number))
    return made


def test_old_merges_are_removed_but_for_one_and_those_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    used, unused, served, before, latest = make_merges(folder, 5)
    for name in ("notes", "old-1234"):  # nobody's merges
        (folder / name).mkdir()
    (folder / f".{unused.name}.removed").mkdir()  # a removal that was cut short
    code = "import sys; from pathlib import Path; from app.models.merged import hold\n"
    code += "print(hold(Path(sys.argv[1])), flush=True); input()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, served], cwd=ROOT, **pipes) as other:
        assert other.stdout
        assert other.stdout.readline() == b"True\n"
        os.utime(served, (2, 2))  # long before others were used
        assert hold(used)
        remove_unused(used)
        left = {one.name for one in folder.iterdir()}
        assert left == {used.name, served.name, latest.name, "notes", "old-1234"}
        assert (served / "model.safetensors").is_file()
        other.communicate(b"\n")
    assert not before.exists()
    remove_unused(used)
    assert not served.exists()
    assert latest.exists()


def test_using_a_merge_again_makes_it_the_latest(tmp_path: Path) -> None:
    first, second, third = make_merges(tmp_path / "merged", 3)
    os.utime(second)  # as when it was used
    assert hold(third)
    remove_unused(third)
    assert second.exists()
    assert not first.exists()


def test_a_merge_that_is_not_whole_is_not_used(tmp_path: Path) -> None:
    (merge,) = make_merges(tmp_path, 1)
    (merge / "config.json").unlink()
    assert not hold(merge)
    assert not hold(tmp_path / "absent")


def test_without_the_setting_nothing_happens(tmp_path: Path) -> None:
    plain = settings(tmp_path, merged=False)
    assert merge_if_asked(plain) is plain


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"adapters": {}}, "exactly one adapter"),
        ({"adapters": {"a": Path("a"), "b": Path("b")}}, "exactly one adapter"),
        ({"adapter_root": Path()}, "no adapter_root"),
        ({}, "adapter news: .*No such file"),
    ],
)
def test_what_does_not_go_with_it(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(StartupError, match=complaint):
        merge_if_asked(settings(tmp_path, **changes))


def test_a_mismatch_is_one_line(tmp_path: Path) -> None:
    write_adapter(tmp_path / "news", hidden=512)
    with pytest.raises(StartupError, match=r"merging .*does not fit") as error:
        merge_if_asked(settings(tmp_path))
    assert "\n" not in str(error.value)
