"""Where adapters may be loaded from: a folder, or a URL that fsspec opens, such as s3://….

An adapter's source is its folder below that root, so that each instance may see the root under a
path of its own.
"""

import shutil
from pathlib import Path
from typing import Any

import fsspec

from app.errors import AdapterRejected, Conflict, InvalidValue
from app.files import first_line

LOCAL = "file://"


class AdapterRoot:
    """root: the setting adapter_root."""

    def __init__(self, root: str | None) -> None:
        self.root = None if root is None else root.removeprefix(LOCAL).rstrip("/") or "/"
        self.is_url = self.root is not None and "://" in self.root

    def find(self, path: str) -> str:
        """The source for a path that an operator named, which may begin with the root.

        Raises Conflict if there is no root, InvalidValue, or AdapterRejected if it can't be read.
        """
        if self.root is None:
            raise Conflict("adapters can't be loaded while serving: adapter_root is not set")
        if not self.is_url:
            root = Path(self.root).resolve()
            return str(find_below(root, path).relative_to(root))
        source = self.shorten(path)
        if "\0" in source or "://" in source or {"", ".", ".."} & set(source.split("/")):
            raise InvalidValue(f"path: {path!r} is not below adapter_root", "path")
        try:
            system, place = self._open(source)
            is_folder = system.isdir(place)
        except Exception as error:  # each file system of fsspec raises errors of its own
            raise AdapterRejected(f"can't read {path}: {first_line(error)}", "path") from error
        if not is_folder:
            raise InvalidValue(f"path: there is no folder {path!r} below adapter_root", "path")
        return source

    def shorten(self, path: str) -> str:
        """A path that may begin with the root, without it. Nothing is looked up."""
        root = f"{self.root}/" if self.is_url else f"{Path(self.root or '/').resolve()}/"
        return path.removeprefix(root).rstrip("/")

    def describe(self, source: str) -> str:
        """The whole path or URL of a source."""
        if self.root is None:
            return source
        return f"{self.root}/{source}" if self.is_url else str(Path(self.root).resolve() / source)

    def copy(self, source: str, folder: Path) -> None:
        """Copy the files directly in a source, except links, to `folder`, which is emptied before.
        Raises AdapterRejected, and what `find` raises."""
        found = self.find(source)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if self.is_url:
                self._download(found, folder)
                return
            for file in Path(self.describe(found)).iterdir():
                if file.is_file() and not file.is_symlink():
                    shutil.copyfile(file, folder / file.name)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            reason = error.strerror or first_line(error)
            raise AdapterRejected(
                f"can't copy {self.describe(source)}: {reason}", "path"
            ) from error

    def _open(self, source: str) -> tuple[Any, str]:
        """The file system and the source's place in it. Only the root is read as a URL."""
        system, root = fsspec.url_to_fs(self.root)
        system.invalidate_cache()
        return system, f"{root.rstrip('/')}/{source}"

    def _download(self, source: str, folder: Path) -> None:
        try:
            system, place = self._open(source)
            for entry in system.ls(place, detail=True):
                name = entry["name"].rsplit("/", 1)[-1]
                if entry["type"] == "file" and name not in ("", ".", ".."):
                    system.get_file(entry["name"], str(folder / name))
        except OSError:
            raise
        except Exception as error:  # see above
            reason = first_line(error)
            raise AdapterRejected(
                f"can't copy {self.describe(source)}: {reason}", "path"
            ) from error


def find_below(root: Path, path: str) -> Path:
    """The folder `path` below `root`, without links or `..`. Raises InvalidValue."""
    wanted = root / path
    if "\0" in path or ".." in wanted.parts or wanted == root or not wanted.is_relative_to(root):
        raise InvalidValue(f"path: {path!r} is not below adapter_root", "path")
    if wanted.resolve() != wanted:
        raise InvalidValue(f"path: {path!r} leads through a link", "path")
    if not wanted.is_dir():
        raise InvalidValue(f"path: there is no folder {path!r} below adapter_root", "path")
    return wanted
