"""Test files: reproducible content, and their checksum."""

import hashlib
from pathlib import Path

_BLOCK = 1 << 20


def make(path: Path, size: int, seed: str) -> str:
    """Writes `size` pseudo-random bytes that depend on `seed` alone, and
    returns their SHA-256.  No block repeats, so that data that arrives in the
    wrong place cannot go unnoticed."""
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for start in range(0, size, _BLOCK):
            source = hashlib.shake_128(f"{seed}/{start}".encode())
            block = source.digest(min(_BLOCK, size - start))
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
