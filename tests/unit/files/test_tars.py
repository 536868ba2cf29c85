"""Tars read under limits."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gcr_core.errors import GalleryError
from gcr_core.files.tars import MAX_HEADER_BYTES, Tar, open_archive
from gcr_core.files.zips import ArchiveLimits, Zip
from tests.uploads import outcome, zipped


def tarred(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_come_by_name_without_folders_and_hidden_ones(mode: str, tmp_path: Path) -> None:
    members = {"./b/c": b"1", "a": b"2", "._a": b"3", "@eaDir/a": b"4", "x" * 300: b"5"}
    with Tar(tarred(tmp_path / "a.tar", members, mode)) as archive:
        assert list(outcome(archive).items()) == [("a", b"2"), ("b/c", b"1"), ("x" * 300, b"5")]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("../up.png", b"x", "leaves the folder"),
        ("a/../../up.png", b"x", "leaves the folder"),
        ("/abs.png", b"x", "leaves the folder"),
        ("C:\\abs.png", b"x", "leaves the folder"),
        ("bad\udcff.png", b"x", "not UTF-8"),
        ("inner.zip", b"x", "archive inside the archive: unpack it first"),
        ("inner.tar.gz", b"x", "archive inside the archive: unpack it first"),
        ("inner.png", b"PK\x03\x04 x", "archive inside the archive: unpack it first"),
        ("big.png", b"x" * 3_000, "has 2.9 KiB unpacked, the limit is 2 KiB: make it smaller"),
    ],
)
def test_a_refused_member_says_why_and_the_rest_can_be_read(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    with Tar(tarred(tmp_path / "a.tar.gz", {name: data, "good": b"1"}), ArchiveLimits(member_bytes=2**11)) as archive:
        found = outcome(archive)
    assert reason in str(found[name])
    assert found["good"] == b"1"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_is_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
    with Tar(path) as archive:
        assert "link or a special file" in str(outcome(archive)["link.png"])


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ArchiveLimits(entries=10), "has over 10 entries, the limit: split it"),
        (ArchiveLimits(total_bytes=10_000), "holds more than 9.8 KiB unpacked, the limit: split it"),
    ],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_over_a_limit_is_refused_as_a_whole(
    limits: ArchiveLimits, reason: str, mode: str, tmp_path: Path
) -> None:
    path = tarred(tmp_path / "a.tar", {str(i): bytes(1_000) for i in range(12)}, mode)
    with pytest.raises(GalleryError, match=reason):
        Tar(path, limits)


def test_a_bomb_is_refused_before_all_of_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarred(tmp_path / "a.tar.gz", {"zeros": bytes(30_000_000)})
    with pytest.raises(GalleryError, match="unpacks to over 200 times its packed size, the limit"):
        Tar(path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_is_not_read_without_bound(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 10 * MAX_HEADER_BYTES
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(11 * MAX_HEADER_BYTES))
    with pytest.raises(GalleryError, match=r"a header of 10,\d+,\d+ bytes, the limit is 1,048,576"):
        Tar(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:40] + bytes(100) + data[140:],
        lambda data: gzip.compress(b"a picture, no tar" * 100),
        lambda data: data[:2],
    ],
)
def test_a_damaged_tar_is_a_named_error(damage, tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", {str(i): bytes(range(256)) * 20 for i in range(50)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GalleryError, match=r"a\.tar\.gz (cannot be read as a tar|cannot be unpacked)"):
        Tar(path)


def test_a_tar_with_changed_bytes_ends_in_members_or_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    members = {f"a/{i}.png": bytes(range(200)) for i in range(4)} | {"x" * 200: b"1"}
    whole = {mode: tarred(tmp_path / "a.tar", members, mode).read_bytes() for mode in ("w", "w:gz")}
    for round_number in range(400):
        data = bytearray(whole["w" if round_number % 4 else "w:gz"])
        for place in rng.integers(0, len(data) if round_number % 2 else min(512, len(data)), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        try:
            with Tar(io.BytesIO(bytes(data))) as archive:
                found = outcome(archive)
        except GalleryError as error:
            found = {"": str(error)}
        assert not any("\n" in said for said in found.values() if isinstance(said, str))


def test_a_full_disk_is_not_called_a_bad_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(GalleryError, match=r"cannot be unpacked \(No space left on device\): check .* free space"):
        Tar(tarred(tmp_path / "a.tar.gz", {"a": b"1"}))


@pytest.mark.parametrize("opened", [True, False])
def test_what_an_archive_is_its_content_says(opened: bool, tmp_path: Path) -> None:
    kinds = {
        "tar.zip": tarred(tmp_path / "tar.zip", {"a": b"1"}),
        "zip.tar.gz": zipped(tmp_path / "zip.tar.gz", {"a": b"1"}),
        "plain": tarred(tmp_path / "plain", {"a": b"1"}, "w"),
    }
    for name, path in kinds.items():
        with path.open("rb") as file, open_archive(file if opened else path) as archive:
            assert isinstance(archive, Zip if name == "zip.tar.gz" else Tar)
            assert [archive.read(member) for member in archive.members] == [b"1"]
    with pytest.raises(GalleryError, match="cannot be read as a zip"):
        open_archive(io.BytesIO(b"neither"))
    (tmp_path / "bad.tar.gz").write_bytes(b"neither")
    with pytest.raises(GalleryError, match="cannot be read as a tar"):
        open_archive(tmp_path / "bad.tar.gz")
    with pytest.raises(GalleryError, match="check its path"):
        open_archive(tmp_path / "nowhere.zip")
