"""Archive: a memory as one zip, and back from a stranger's zip.

What comes in is held to be hostile: only the kinds of file that a memory has are taken, each where it says it is,
within limits; then a process of its own, with limits of time, memory and open files, reads what its models are said to
be, opens the memory and every picture of it, and asks it something. Knows nothing about workspaces.
"""

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image

from gcr_core.data.formats import format_of
from gcr_core.data.images import open_image
from gcr_core.data.pictures import IMPORT_SIDE
from gcr_core.errors import GalleryError, GcrError, InputError, MemoryFormatError
from gcr_core.files.hub import DATA_FILES, TEXT_FILES, here
from gcr_core.files.layout import MANIFEST_FILE, holds_adapter, weight_files
from gcr_core.files.zips import ArchiveLimits, Zip
from gcr_core.memory.manifest import read_manifest, write_manifest
from gcr_core.memory.scrutiny import check_filled, scrutinise
from gcr_core.retrieval.faiss_file import check_index
from gcr_core.runtime import confine, step_back
from gcr_core.settings import ROOT

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory

MAX_ENTRIES = 50_000
"""The most members of a zip that is opened."""
TRIAL_SECONDS = 600
"""How long the process that opens an unpacked memory may take."""
LOAD_SECONDS = 120
"""How long it may take to load."""
ANSWER_SECONDS = 30
"""How long each question on trial may take."""
FAILED, REFUSED = 2, 3
"""What the process ends with that opens a memory and could not, and that would not by what it says of its models."""
ROOM = 256 * 2**20
"""The bytes of memory that a memory may take beyond its libraries and twice its weights, to be loaded and asked."""


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
    limits = ArchiveLimits(entries=MAX_ENTRIES, total_bytes=max_bytes, member_bytes=max_bytes)
    try:
        with Zip(archive, limits) as parcel:
            names = [PurePosixPath(member.filename) for member in parcel.members]
            tops = [name.parent for name in names if name.name == MANIFEST_FILE and len(name.parts) <= 2]
            if len(tops) != 1:
                raise MemoryFormatError(
                    f"{parcel.name} holds {len(tops) or 'no'} memories: choose a zip that was downloaded as one"
                )
            for member, name in zip(parcel.members, names, strict=True):
                _write(parcel, member, name, tops[0], folder)
    except GalleryError as error:
        raise MemoryFormatError(str(error)) from error


def check(folder: Path) -> None:
    """Opens an unpacked memory and all its pictures in a process of its own, asks it, and writes its manifest anew.

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
    if trial.returncode == -getattr(signal, "SIGALRM", 0):
        raise MemoryFormatError(
            f"the memory did not load in {LOAD_SECONDS} s or did not answer in {ANSWER_SECONDS} s: choose a smaller one"
        )
    if trial.returncode:
        lines = trial.stderr.strip().splitlines() if trial.returncode > 0 else []
        last = (lines or ["its process was ended, perhaps for want of memory"])[-1]
        if trial.returncode == REFUSED:
            raise MemoryFormatError(f"the memory in the zip cannot be opened: {last}")
        raise MemoryFormatError(f"the memory in the zip cannot be opened ({last}): download it anew")


def _write(parcel: Zip, member: zipfile.ZipInfo, name: PurePosixPath, top: PurePosixPath, folder: Path) -> None:
    """Writes one member below the folder. Raises MemoryFormatError for one that no memory has there."""
    try:
        chunks = parcel.chunks(member)
        first = next(chunks, b"")
        if not name.is_relative_to(top):
            raise InputError(f"stands beside the memory's folder {top.name!r}: leave it out")
        known = any(fnmatchcase(name.name.lower(), kind) for kind in (*TEXT_FILES, *DATA_FILES))
        if not known and (name.suffix or format_of(first) is None):
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


def room(folder: Path) -> int | None:
    """How many bytes of memory may be taken to load and ask the memory in a folder; None where models go to a GPU,
    whose libraries take address space for themselves."""
    import torch

    return None if torch.cuda.is_available() else needed(folder)


def needed(folder: Path) -> int:
    """The same where they stay in the machine's memory; without a model library."""
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    if holds_adapter(folder):
        base = here(str(read_manifest(folder)["backbone"]["name"]), instead="checkpoints/gcr-mini")
        weights += sum(path.stat().st_size for path in weight_files(base)) if base else 0
    return ROOM + 2 * weights


def _open(folder: Path) -> int:
    """The trial's process: prints one line and returns FAILED where the memory cannot be opened, REFUSED where that is
    not tried."""
    step_back()
    status = REFUSED
    try:
        scrutinise(folder)
        from gcr_core.memory.memory import Memory

        _confine(folder)
        check_filled(folder)
        status = FAILED
        with _within(LOAD_SECONDS):
            memory = Memory.from_pretrained(folder)
        for image in filter(memory.gallery.has_picture, range(len(memory.gallery))):
            memory.gallery.open(image)
            open_image(memory.gallery.original(image), IMPORT_SIDE)
        _ask(memory)
        write_manifest(folder, memory.facts)
    except BaseException as error:  # a panic in a library's Rust is no Exception
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return status
    return 0


def _confine(folder: Path) -> None:
    confine(room(folder))


def _ask(memory: "Memory") -> None:
    """One question in words, one with a picture, one description."""
    picture = Image.linear_gradient("L").convert("RGB")
    words = next((captions[0] for captions in memory.gallery.captions if captions), "a picture")
    for ask in (
        lambda: memory.search(words, top=1, trace=True),
        lambda: memory.search_image(picture, top=1),
        lambda: memory.describe(memory.gallery.file_names[:1]),
    ):
        with _within(ANSWER_SECONDS), suppress(InputError):  # a script that the tokenizer cannot read
            ask()


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Has the system end this process where the block takes longer, whichever library it is in."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(_open(Path(sys.argv[1])))
