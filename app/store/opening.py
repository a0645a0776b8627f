"""Making the store from the settings."""

import os
import secrets
from pathlib import Path

from app.errors import StartupError
from app.settings import Settings
from app.store.database import Database
from app.store.records import ReaderKey
from app.store.retention import Retention
from app.store.store import Store

MIN_KEY_CHARS = 16


def make_store(settings: Settings) -> Store:
    """The store that the settings ask for; `start` opens it. Raises StartupError."""
    database = Database(settings.store_url)
    return Store(
        database,
        Retention(settings.feedback_days, settings.feedback_answers, settings.story_days),
        ReaderKey(reader_key(settings, database.is_sqlite)),
        settings.remember,
        former_file=settings.state / "feedback.sqlite",
    )


def reader_key(settings: Settings, is_sqlite: bool) -> bytes:
    """The key of the hashes of readers' ids. Raises StartupError."""
    if settings.reader_key is not None:
        key = settings.reader_key.get_secret_value()
        if len(key) < MIN_KEY_CHARS:
            raise StartupError(
                f"setting FRONTPAGE_READER_KEY: at least {MIN_KEY_CHARS} characters are needed"
            )
        return key.encode()
    if not is_sqlite:
        raise StartupError(
            "setting FRONTPAGE_READER_KEY: needed with PostgreSQL, the same for all instances; for"
            " example the output of `openssl rand -hex 32`"
        )
    return kept_key(settings.state / "reader.key")


def kept_key(file: Path) -> bytes:
    """The key in `file`, which is made if it is missing. Raises StartupError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        partial.touch(0o600)
        partial.write_text(secrets.token_hex(32))
        try:
            os.link(partial, file)  # fails if there is one already, also from another process
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"can't keep the readers' key in {file}: {error.strerror}") from None
