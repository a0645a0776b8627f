"""Fingerprints, which tell a model's weights from others whatever files they lie in.

A fingerprint covers every byte of every tensor, so it takes as long as reading the weights. It is
therefore kept in the model's folder, as long as the weight files' names, sizes and times stay the
same. Where the folder can't be written, each process computes it once.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from app.engine.weights import FINGERPRINT_FILE, QUANTIZED_FILE, LoraError, weight_files
from app.files import read_json, write_whole

KIND = "sha256-tensors:"
"""Begins every fingerprint. Those of earlier versions have no such beginning."""
SAMPLE_BYTES = 1 << 16

Stamp = list[list[str | int]]
"""The weight files' names, sizes in bytes and times of last change in nanoseconds."""

_known: dict[Path, tuple[Stamp, str]] = {}


def fingerprint(folder: Path) -> str:
    """SHA-256 over the name, dtype, shape and bytes of all tensors, in the order of their names.

    Raises OSError, and LoraError for weights that can't be read.
    """
    place = folder.resolve()
    files = sorted(set(weight_files(place).values()))
    stamp: Stamp = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    stamped, found = _known.get(place) or read_cache(place)
    if stamped != stamp:
        found = hash_tensors(files)
        with suppress(OSError):  # a folder that is read-only: the next process computes it again
            cache = {"files": stamp, "fingerprint": found}
            write_whole(place / FINGERPRINT_FILE, json.dumps(cache, indent=1) + "\n")
    _known[place] = (stamp, found)
    return found


def is_fingerprint_of(folder: Path, expected: str) -> bool:
    """Whether `expected` is the fingerprint of the folder's weights, by the rule of its own kind,
    or of those that they were quantized from.

    Raises OSError and LoraError.
    """
    if expected in quantized_from(folder):
        return True
    own = fingerprint(folder) if expected.startswith(KIND) else sampled_fingerprint(folder)
    return own == expected


def quantized_from(folder: Path) -> list[str]:
    """Fingerprints of the weights that the folder's were quantized from; none for other models."""
    try:
        record = read_json(folder / QUANTIZED_FILE)
    except (OSError, ValueError):
        return []
    found = record.get("source_fingerprints")
    return found if isinstance(found, list) else []


def read_cache(folder: Path) -> tuple[Stamp, str]:
    """What an earlier call has kept; nothing that is true of any files if there is none."""
    try:
        cache = json.loads((folder / FINGERPRINT_FILE).read_text(encoding="utf-8"))
        return cache["files"], str(cache["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], ""


def hash_tensors(files: list[Path]) -> str:
    """The fingerprint of the tensors in these files, computed on all processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashed = sorted(line for file in files for line in hash_file(file, pool))
    return KIND + hashlib.sha256("".join(hashed).encode()).hexdigest()


def hash_file(file: Path, pool: ThreadPoolExecutor) -> Iterator[str]:
    """A line for each tensor: its name, dtype, shape and the hash of its bytes. Raises LoraError
    for a file that is not safetensors."""
    try:
        with (
            file.open("rb") as content,
            mmap.mmap(content.fileno(), 0, prot=mmap.PROT_READ) as data,
        ):
            start = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:start])
            header.pop("__metadata__", None)

            def describe(name: str) -> str:
                tensor = header[name]
                first, end = tensor["data_offsets"]
                with memoryview(data) as whole, whole[start + first : start + end] as part:
                    digest = hashlib.sha256(part).hexdigest()
                return json.dumps([name, tensor["dtype"], tensor["shape"], digest]) + "\n"

            yield from pool.map(describe, header)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoraError(f"{file} can't be read: {error!r}") from None


def sampled_fingerprint(folder: Path) -> str:
    """The fingerprint of earlier versions: over each weight file's header and last bytes. Adapters
    that were trained with them carry it."""
    digest = hashlib.sha256()
    for file in sorted(set(weight_files(folder).values())):
        with file.open("rb") as content:
            digest.update(content.read(SAMPLE_BYTES))
            content.seek(max(file.stat().st_size - SAMPLE_BYTES, 0))
            digest.update(content.read(SAMPLE_BYTES))
    return digest.hexdigest()
