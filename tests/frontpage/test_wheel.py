"""What `pip install .` installs is complete. tests/slow installs it and serves."""

from pathlib import Path
from zipfile import ZipFile

from app import __version__
from tests.support.models import ROOT
from tests.support.wheels import PACKAGES, build


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    with ZipFile(build(tmp_path)) as archive:
        inside = set(archive.namelist())
    files = {
        str(file.relative_to(ROOT))
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert files <= inside
    assert {name.split("/")[0] for name in inside - files} == {f"frontpage-{__version__}.dist-info"}
