"""Zips read under limits."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from gcr_core.errors import GalleryError
from gcr_core.files.zips import ArchiveLimits, Zip
from tests.uploads import outcome, zipped


def test_members_come_by_name_without_folders_and_hidden_ones(tmp_path: Path) -> None:
    members = {"b/c": b"1", "b/": b"", "a": b"2", ".DS_Store": b"3", "__MACOSX/a": b"4", "b/.x": b"5"}
    with Zip(zipped(tmp_path / "a.zip", members)) as archive:
        assert list(outcome(archive).items()) == [("a", b"2"), ("b/c", b"1")]


def test_an_open_file_is_read_and_stays_open(tmp_path: Path) -> None:
    with zipped(tmp_path / "a.zip", {"a": b"1"}).open("rb") as file:
        with Zip(file) as archive:
            assert archive.name == "a.zip"
            assert outcome(archive) == {"a": b"1"}
        assert not file.closed


def test_a_large_member_comes_in_pieces(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4_000
    with Zip(zipped(tmp_path / "a.zip", {"a": data})) as archive:
        pieces = list(archive.chunks(archive.members[0]))
    assert len(pieces) > 1
    assert b"".join(pieces) == data


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("../up.png", b"x", "leaves the folder"),
        ("a/../../up.png", b"x", "leaves the folder"),
        ("..\\up.png", b"x", "leaves the folder"),
        ("/abs.png", b"x", "leaves the folder"),
        ("C:\\abs.png", b"x", "leaves the folder"),
        ("inner.zip", b"x", "archive inside the archive: unpack it first"),
        ("inner.tar.gz", b"x", "archive inside the archive: unpack it first"),
        ("inner.png", b"PK\x03\x04 x", "archive inside the archive: unpack it first"),
        ("bomb.bmp", bytes(5_000_000), "unpacks to 4.8 MiB, over 200 times its packed size, the limit"),
        ("big.png", b"x" * 3_000, "has 2.9 KiB unpacked, the limit is 2 KiB: make it smaller"),
    ],
)
def test_a_refused_member_says_why_and_the_rest_can_be_read(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    limits = ArchiveLimits(member_bytes=2**11 if name == "big.png" else 2**26)
    with Zip(zipped(tmp_path / "a.zip", {name: data, "good": b"1"}), limits) as archive:
        found = outcome(archive)
    assert reason in str(found[name])
    assert found["good"] == b"1"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_link_or_device_is_refused(kind: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with Zip(path) as archive:
        assert "link or a special file" in str(outcome(archive)["link.png"])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", b"x")
    with Zip(path) as archive:
        assert f"packed by method {method}, not by Deflate" in str(outcome(archive)["a.png"])


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "a.zip", {"a.png": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with Zip(io.BytesIO(bytes(data))) as archive:
        assert "is encrypted: zip it without a password" in str(outcome(archive)["a.png"])


def test_a_damaged_member_says_so(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 40
    data = bytearray(zipped(tmp_path / "a.zip", {"a": noise, "b": b"1"}).read_bytes())
    data[60:200] = bytes(140)
    with Zip(io.BytesIO(bytes(data))) as archive:
        found = outcome(archive)
    assert "the zip is damaged there, make it anew" in str(found["a"])
    assert found["b"] == b"1"


def test_two_members_of_one_name_are_both_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a": b"1"})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a", b"2")
    with Zip(path) as archive:
        assert [archive.read(member) for member in archive.members] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ArchiveLimits(entries=10), "a.zip has 12 entries, the limit is 10: split it"),
        (ArchiveLimits(total_bytes=1_000), "a.zip holds 1.2 KiB unpacked, the limit is 1000 bytes: split it"),
    ],
)
def test_a_zip_over_a_limit_is_refused_as_a_whole(limits: ArchiveLimits, reason: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {str(i): bytes(100) for i in range(12)})
    with pytest.raises(GalleryError, match=reason):
        Zip(path, limits)


def test_a_directory_that_names_the_same_bytes_again_and_again_is_refused(tmp_path: Path) -> None:
    data = zipped(tmp_path / "a.zip", {"a": bytes(range(256))}).read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry, tail = data[start:end], bytearray(data[end:])
    tail[8:12] = (9).to_bytes(2, "little") * 2
    tail[12:16] = (9 * len(entry)).to_bytes(4, "little")
    with pytest.raises(GalleryError, match=r"says it packs .* into its .*: make the zip anew"):
        Zip(io.BytesIO(data[:start] + 9 * entry + bytes(tail)))


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no zip", lambda data: data[: len(data) // 2]])
def test_what_is_no_zip_is_a_named_error(damage, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a": b"1"})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GalleryError, match=r"a\.zip cannot be read as a zip"):
        Zip(path)
    with pytest.raises(GalleryError, match=r"nowhere\.zip cannot be read .*: check its path"):
        Zip(tmp_path / "nowhere.zip")
