"""Files that are replaced whole or not at all, and errors in one line."""

from pathlib import Path

import pytest

from app.files import first_line, write_whole


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "state.json"
    for text in ("before", "äfter"):
        write_whole(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.json"
    write_whole(file, "before")

    def full(self: Path, text: str, **_: object) -> int:
        self.write_bytes(text.encode()[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(file, "after")
    assert file.read_text(encoding="utf-8") == "before"
    write_whole(file, "after")
    assert file.read_text(encoding="utf-8") == "after"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  the cause \nmany more lines"), "the cause"),
        (ValueError(), "ValueError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_the_first_line_says_something(error: Exception, line: str) -> None:
    assert first_line(error) == line
