"""Archive: a memory as one zip, and back from a stranger's zip.

What comes in is held to be hostile: only the kinds of file that a memory has are taken, each where it says it is,
within limits; then a process of its own opens the memory and every picture of it. Knows nothing about workspaces.
"""

import os
import subprocess
import sys
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from gcr_core.errors import GalleryError, GcrError, InputError, MemoryFormatError
from gcr_core.files.hub import DATA_FILES, TEXT_FILES
from gcr_core.files.layout import MANIFEST_FILE
from gcr_core.files.zips import Limits, Zip
from gcr_core.memory.manifest import write_manifest
from gcr_core.retrieval.faiss_file import check_index
from gcr_core.runtime import step_back
from gcr_core.settings import ROOT

MAX_ENTRIES = 50_000
"""The most members of a zip that is opened."""
TRIAL_SECONDS = 600
"""How long the process that opens an unpacked memory may take."""


def pack(folder: Path, archive: Path) -> None:
    """Zips a memory; nothing is compressed, since weights and pictures hardly shrink.

    Raises GcrError where the memory is rewritten all the while.
    """
    for _ in range(3):
        before = folder.stat().st_ino
        try:
            with zipfile.ZipFile(archive, "w", strict_timestamps=False) as members:
                for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                    members.write(path, path.relative_to(folder).as_posix())
        except FileNotFoundError:
            continue
        if folder.stat().st_ino == before:
            return
    raise GcrError("the memory was rewritten 3 times while it was read: try again when it rests")


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Writes the memory in a zip, which may stand in one top folder there, into an empty folder.

    Raises MemoryFormatError, naming the member, for what no memory holds.
    """
    limits = Limits(entries=MAX_ENTRIES, total_bytes=max_bytes, member_bytes=max_bytes)
    try:
        with Zip(archive, limits) as parcel:
            names = [PurePosixPath(member.filename) for member in parcel.members]
            tops = [name.parent for name in names if name.name == MANIFEST_FILE and len(name.parts) <= 2]
            if len(tops) != 1:
                raise MemoryFormatError(
                    f"{parcel.name} has {len(tops)} files {MANIFEST_FILE} at its top, a memory has one: "
                    "choose a zip that Download gave"
                )
            for member, name in zip(parcel.members, names, strict=True):
                _write(parcel, member, name, tops[0], folder)
    except GalleryError as error:
        raise MemoryFormatError(str(error)) from error


def check(folder: Path) -> None:
    """Opens an unpacked memory and all its pictures in a process of its own, and writes its manifest anew from them.

    The process is the first to die where memory runs out. Raises MemoryFormatError, saying what failed.
    """
    check_index(folder / "dense" / "index.faiss", flat_only=True)
    command = [sys.executable, "-m", __name__, str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        trial = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True,
            errors="replace", timeout=TRIAL_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise MemoryFormatError(f"the memory did not open in {TRIAL_SECONDS} s: choose a smaller one") from error
    if trial.returncode:
        last = (trial.stderr.strip().splitlines() or ["its process was killed, perhaps for want of memory"])[-1]
        raise MemoryFormatError(f"the memory in the zip cannot be opened ({last}): download it anew")


def _write(parcel: Zip, member: zipfile.ZipInfo, name: PurePosixPath, top: PurePosixPath, folder: Path) -> None:
    """Writes one member below the folder. Raises MemoryFormatError for one that no memory has there."""
    try:
        chunks = parcel.chunks(member)
        first = next(chunks, b"")
        if not name.is_relative_to(top):
            raise InputError(f"stands beside the memory's folder {top.name!r}: leave it out")
        if not any(fnmatchcase(name.name.lower(), kind) for kind in (*TEXT_FILES, *DATA_FILES)):
            raise InputError("is of a kind that no memory holds: leave it out")
        target = folder / name.relative_to(top)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(first)
            for chunk in chunks:
                file.write(chunk)
    except (InputError, FileExistsError, NotADirectoryError) as error:
        reason = str(error) if isinstance(error, InputError) else "stands twice in the zip: keep one"
        raise MemoryFormatError(f"{parcel.name}: {member.filename!r}: {reason}") from error


def _open(folder: Path) -> int:
    """The trial's process: prints one line and returns 2 where the memory cannot be opened."""
    step_back()
    from gcr_core.memory.memory import Memory

    try:
        memory = Memory.from_pretrained(folder)
        for image in filter(memory.gallery.has_picture, range(len(memory.gallery))):
            memory.gallery.open(image)
        write_manifest(folder, memory.facts)
    except Exception as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_open(Path(sys.argv[1])))
