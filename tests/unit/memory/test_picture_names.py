"""Pictures of a memory whose names do not say what they are, in a zip."""

import zipfile
from pathlib import Path

import pytest

from gcr_core.errors import MemoryFormatError
from gcr_core.memory.archive import unpack
from tests.pictures import sample


def zipped(folder: Path, name: str, data: bytes) -> Path:
    archive = folder / "memory.zip"
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("memory.json", "{}")
        members.writestr(name, data)
    return archive


@pytest.mark.parametrize(
    "name", ["gallery/yellow sun", "gallery/a.heic", "gallery/A.HEIF", "originals/b.jfif", "gallery/x.mpo"]
)
def test_a_picture_comes_along_whatever_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    unpack(zipped(tmp_path, name, sample("JPEG")), tmp_path / "into", 2**20)
    assert (tmp_path / "into" / name).read_bytes() == sample("JPEG")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("gallery/yellow sun", b"#!/bin/sh\n"),
        ("gallery/yellow sun", b""),
        ("model/code.py", sample("JPEG")),
        ("gallery/a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("gallery/a.tif", sample("PNG")),
    ],
)
def test_what_no_memory_holds_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    with pytest.raises(MemoryFormatError, match="is of a kind that no memory holds: leave it out"):
        unpack(zipped(tmp_path, name, data), tmp_path / "into", 2**20)
