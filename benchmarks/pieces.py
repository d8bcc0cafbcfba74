"""Files in pieces that may be carried one at a time, and whole again on the other side.

Needs the standard library alone. ``FOLDER/NAME-1``, ``FOLDER/NAME-2`` and so on each hold a piece
and ``SHA256SUMS`` with the digest of the whole file.
"""

import hashlib
import shutil
from pathlib import Path

MIB = 2**20
SUMS = "SHA256SUMS"


def sha256(path: Path) -> str:
    """Returns the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split(path: Path, folder: Path, name: str, limit: int) -> list[Path]:
    """Cuts a file into pieces of at most ``limit`` bytes, one in each ``folder/name-NUMBER``.

    Older pieces of that name are removed.

    Returns:
        the folders, in order.
    """
    for old in folder.glob(f"{name}-*"):
        shutil.rmtree(old)
    count = max(1, -(-path.stat().st_size // limit))
    digest, folders = sha256(path), []
    with path.open("rb") as file:
        for number in range(1, count + 1):
            target = folder / f"{name}-{number}"
            target.mkdir(parents=True)
            (target / f"{path.name}.{number}of{count}").write_bytes(file.read(limit))
            (target / SUMS).write_text(f"{digest}  {path.name}\n", encoding="utf-8")
            folders.append(target)
    return folders


def join(folder: Path) -> list[Path]:
    """Puts every file together whose pieces lie below a folder, into ``folder/joined``.

    Returns:
        the whole files.

    Raises:
        SystemExit: a piece is missing, or a SHA-256 is wrong; that file is not left there then.
    """
    lines = {sums.read_text(encoding="utf-8") for sums in folder.glob(f"*/{SUMS}")}
    if not lines:
        raise SystemExit(f"No pieces in {folder}; bring the folders that gpu_wheels.py wrote.")
    joined = folder / "joined"
    joined.mkdir(exist_ok=True)
    return [_whole(folder, joined, *line.split()) for line in sorted(lines)]


def _whole(folder: Path, joined: Path, digest: str, name: str) -> Path:
    found = {piece.name: piece for piece in folder.glob(f"*/{name}.*of*")}
    count = int(next(iter(found), "1of1").rpartition("of")[2])
    pieces = [f"{name}.{number}of{count}" for number in range(1, count + 1)]
    if missing := [piece for piece in pieces if piece not in found]:
        raise SystemExit(f"{', '.join(missing)} is missing in {folder}; bring it too.")
    target, partial = joined / name, joined / f"{name}.partial"
    target.unlink(missing_ok=True)
    with partial.open("wb") as file:
        for piece in pieces:
            with found[piece].open("rb") as source:
                shutil.copyfileobj(source, file, MIB)
    if (is_now := sha256(partial)) != digest:
        partial.unlink()
        raise SystemExit(
            f"{name} has the SHA-256 {is_now} where {digest} was expected; bring it anew."
        )
    return partial.rename(target)
