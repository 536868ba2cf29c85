"""What strangers hand over: each bad item is refused by a named reason, the rest is kept, nothing is left on disk."""

import base64
import json
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcr_core.data import importer
from gcr_core.data.gallery import Gallery
from gcr_core.data.images import ORIENTATION_TAG, open_image
from gcr_core.errors import GalleryError
from tests.uploads import encoded, everything_below, picture, zipped

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
RNG = np.random.default_rng(7)
PHOTO = Image.fromarray(RNG.integers(0, 255, (6, 8, 3), np.uint8)).resize((80, 60), Image.Resampling.BICUBIC)
TEN_MB = base64.b64encode(RNG.bytes(7_500_000)).decode()
"""A text that no zip packs into much less."""


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    chunks = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"
    packed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def zip_of_links(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, target in {"link.png": "/etc/passwd", "folder": "/etc"}.items():
            link = zipfile.ZipInfo(name)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
    return path


def zip_of_entries(path: Path, count: int) -> Path:
    """A zip with `count` empty entries."""
    names = [b"%06d.png" % i for i in range(count)]
    local = b"".join(struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 10, 0) + name for name in names)
    entries = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 40 * i) + name
        for i, name in enumerate(names)
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, len(entries), len(local), 0)
    path.write_bytes(local + entries + end)
    return path


def zip_that_claims(path: Path, size: int) -> Path:
    """A zip whose three members say that they unpack to `size` bytes each."""
    data = bytearray(zipped(path, {f"{i}.png": bytes(2_000) for i in range(3)}).read_bytes())
    start = -1
    while (start := data.find(b"PK\1\2", start + 1)) >= 0:
        data[start + 24 : start + 28] = struct.pack("<I", size)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("../../up.png", picture(), "its name leaves the folder: name files below it"),
        ("/etc/abs.png", picture(), "its name leaves the folder: name files below it"),
        ("inner.zip", picture(), "is an archive inside the archive: unpack it first"),
        ("inner.png", b"PK\x03\x04 and so on", "is an archive inside the archive: unpack it first"),
        ("bomb.bmp", b"BM" + bytes(20_000_000), "19.1 MiB, over 200 times its packed size, the limit"),
        ("bomb.png", bytes(70_000_000), "has 66.8 MiB unpacked, the limit is 64 MiB: make it smaller"),
        ("claims.png", png_header(50_000, 50_000), "pixels, the limit is 64,000,000: make the picture smaller"),
        ("eps.jpg", encoded(PHOTO, "EPS"), "is no JPEG, PNG, WebP, GIF, BMP, HEIC or AVIF picture"),
        ("svg.jpg", SVG, "is no JPEG, PNG, WebP, GIF, BMP, HEIC or AVIF picture"),
        ("tiff.jpg", encoded(PHOTO, "TIFF"), "is no JPEG, PNG, WebP, GIF, BMP, HEIC or AVIF picture"),
        ("cut.jpg", encoded(PHOTO, "JPEG")[:-800], "damaged or cut off, save it anew"),
        ("cut.png", encoded(PHOTO, "PNG")[:-2_000], "damaged or cut off, save it anew"),
        ("cut.webp", encoded(PHOTO, "WEBP")[:-200], "save it"),
        ("empty.png", b"", "has 0 bytes: save the picture anew"),
        ("captions.csv", b"file_name,text\n", "looks like captions, is not read: it has no rows"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_bad_file_is_listed_with_its_reason_and_the_rest_is_kept(
    name: str, data: bytes, reason: str, alone: bool, tmp_path: Path
) -> None:
    archive = zipped(tmp_path / "upload.zip", {name: data, "good.png": picture()})
    (tmp_path / "other.png").write_bytes(picture(seed=1))
    sources = [archive] if alone else [tmp_path / "other.png", archive]
    gallery = Gallery.collect(sources, tmp_path / "home" / "into")
    ((skipped, said),) = gallery.skipped
    assert skipped == (name if alone else f"upload.zip/{name}")
    assert reason in said
    kept = ["good.png"] if alone else ["other.png", "good.png"]
    assert gallery.file_names == kept
    assert everything_below(tmp_path / "home") == sorted(f"into/{file}" for file in [*kept, "metadata.jsonl"])


@pytest.mark.parametrize(
    ("name", "bad", "reason"),
    [
        ("many.zip", lambda path: zip_of_entries(path, 100_000), "100,000 entries, the limit is 50,000: split it"),
        ("bomb.zip", lambda path: zip_that_claims(path, 2**32 - 2), "holds 12 GiB unpacked, the limit is 8 GiB"),
        ("no.zip", lambda path: path.write_bytes(b"no zip") and path, "cannot be read as a zip"),
        ("gone.zip", lambda path: path, "cannot be read (No such file or directory): check its path"),
    ],
)
def test_a_zip_refused_as_a_whole_is_listed_and_the_other_sources_are_kept(
    name: str, bad, reason: str, tmp_path: Path
) -> None:
    archive = bad(tmp_path / name)
    good = zipped(tmp_path / "good.zip", {"a.png": picture()})
    gallery = Gallery.collect([archive, good], tmp_path / "home" / "into")
    assert gallery.file_names == ["a.png"]
    ((skipped, said),) = gallery.skipped
    assert skipped == name
    assert reason in said
    with pytest.raises(GalleryError) as caught:
        Gallery.collect([archive], tmp_path / "home" / "alone")
    assert reason in str(caught.value)
    assert everything_below(tmp_path / "home") == ["into/a.png", "into/metadata.jsonl"]


def test_links_in_a_zip_are_listed(tmp_path: Path) -> None:
    archive = zip_of_links(tmp_path / "links.zip")
    (tmp_path / "good.png").write_bytes(picture())
    gallery = Gallery.collect([archive, tmp_path / "good.png"], tmp_path / "into")
    assert gallery.file_names == ["good.png"]
    assert [name for name, _ in gallery.skipped] == ["links.zip/folder", "links.zip/link.png"]
    assert all("is a link or a special file" in reason for _, reason in gallery.skipped)


def test_what_is_no_file_in_a_folder_is_listed_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere")
    (folder / "good.png").write_bytes(picture())
    gallery = Gallery.collect([folder], tmp_path / "into")
    assert gallery.file_names == ["good.png"]
    assert [name for name, _ in gallery.skipped] == ["dangling.png", "pipe.png"]


def test_nothing_usable_at_all_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(SVG)
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(GalleryError, match=r"no image can be used \(first of 2 skipped: a.jpg: the image is no JPEG"):
        Gallery.collect([tmp_path / "a.jpg", tmp_path / "b.jpg"], tmp_path / "home" / "into")
    with pytest.raises(GalleryError, match="no image can be used: add JPEG"):
        Gallery.collect([], tmp_path / "home" / "into")
    assert everything_below(tmp_path / "home") == []


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return encoded(PHOTO.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


SIXTEEN_BIT = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)
UNUSUAL = {
    "cmyk.jpg": (encoded(PHOTO.convert("CMYK"), "JPEG", quality=100, subsampling=0), PHOTO),
    "palette.png": (encoded(PHOTO.quantize(256), "PNG"), PHOTO.quantize(256).convert("RGB")),
    "palette.gif": (encoded(PHOTO.quantize(256), "GIF"), PHOTO.quantize(256).convert("RGB")),
    "sixteen-bit.png": (encoded(SIXTEEN_BIT, "PNG"), PHOTO.convert("L").convert("RGB")),
    "animated.gif": (
        encoded(PHOTO.quantize(256), "GIF", save_all=True, append_images=[PHOTO.rotate(180).quantize(256)]),
        PHOTO.quantize(256).convert("RGB"),
    ),
    "animated.webp": (
        encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(180)], lossless=True),
        PHOTO,
    ),
    "animated.png": (encoded(PHOTO, "PNG", save_all=True, append_images=[PHOTO.rotate(180)]), PHOTO),
    "several-frames.jpg": (encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)], quality=100), PHOTO),
    "rotated.png": (rotated(6), PHOTO),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_pictures_are_taken_in_as_they_look(name: str, tmp_path: Path) -> None:
    data, looks = UNUSUAL[name]
    (tmp_path / name).write_bytes(data)
    gallery = Gallery.collect([tmp_path / name], tmp_path / "into")
    assert gallery.skipped == []
    taken = np.asarray(gallery.open(0), int)
    assert taken.shape == (60, 80, 3)
    assert np.abs(taken - np.asarray(looks, int)).mean() < (4 if name.endswith(("jpg", "webp")) else 1)


@pytest.mark.parametrize(
    "name",
    [
        "quo\"te's.png",
        "line\nbreak\u2028.png",
        "😀.png",
        "right\u202eto-left\u200f.png",
        "<script>alert(1)<script>.png",
        " .png",
        " .hidden.png",
        " .thumbnails",
        "x" * 250 + ".png",
        "é" * 150 + ".png",
        "a." + "y" * 300,
        "con\x07trol.png",
        "metadata.jsonl.png",
        "-rf.png",
    ],
)
def test_any_file_name_is_taken_in_with_its_caption(name: str, tmp_path: Path) -> None:
    rows = json.dumps({"file_name": name, "text": "a dog"}) + "\n"
    members = {name: picture((300, 300)), "metadata.jsonl": rows.encode(), "other.png": picture(seed=1)}
    gallery = Gallery.collect([zipped(tmp_path / "a.zip", members)], tmp_path / "into")
    (kept,) = (file for file in gallery.file_names if file != "other.png")
    assert gallery.captions[gallery.index(kept)] == ["a dog"]
    assert gallery.open(gallery.index(kept)).size == (300, 300)
    assert not set(kept) & set("\n\u2028\u202e\u200f\x07/\\")
    assert not kept.startswith((".", " "))
    assert len(kept.encode()) <= 204
    assert gallery.thumbnail(gallery.index(kept)).parent.name == ".thumbnails"
    assert Gallery.from_folder(tmp_path / "into").file_names == sorted(gallery.file_names)


@pytest.mark.parametrize(
    ("metadata", "name", "reason"),
    [
        (
            {"metadata.csv": "sheet,words\na,x\n"},
            "metadata.csv",
            "has no column 'file_name' but 'sheet, words'",
        ),
        ({"metadata.csv": "file_name\na.png\n"}, "metadata.csv", "has no column 'text' but 'file_name'"),
        (
            {"metadata.csv": b"\xff,a"},
            "metadata.csv",
            "is not UTF-8 text (invalid start byte at byte 0): save it",
        ),
        ({"metadata.jsonl": b"caf\xe9"}, "metadata.jsonl", "is not UTF-8 text"),
        ({"metadata.jsonl": '{"text": "x"}'}, "metadata.jsonl:1", 'has no "file_name": name the image there'),
        ({"metadata.jsonl": "no JSON"}, "metadata.jsonl:1", "is no JSON object: write one object a line"),
        ({"metadata.jsonl": '{"file_name": "gone.png", "text": "x"}'}, "gone.png", "there is no such image"),
        ({"metadata.jsonl": '{"file_name": "../up.png", "text": "x"}'}, "../up.png", "there is no such image"),
        (
            {"metadata.jsonl": json.dumps({"file_name": "a-dog.png", "text": TEN_MB})},
            "metadata.jsonl:1",
            "has a caption of 10,000,000 characters, the limit is 1,000: shorten it",
        ),
        (
            {"metadata.csv": "file_name,text\na-dog.png," + TEN_MB},
            "metadata.csv:2",
            "has a caption of 10,000,000 characters, the limit is 1,000: shorten it",
        ),
        (
            {"metadata.jsonl": json.dumps({"file_name": TEN_MB})},
            "metadata.jsonl:1",
            'has a "file_name" of 10,000,000 characters, the limit is 4,096: shorten it',
        ),
    ],
)
@pytest.mark.parametrize("as_zip", [True, False])
def test_bad_metadata_is_listed_and_the_pictures_are_kept(
    metadata: dict[str, str | bytes], name: str, reason: str, as_zip: bool, tmp_path: Path
) -> None:
    files = {file: text.encode() if isinstance(text, str) else text for file, text in metadata.items()}
    files["a-dog.png"] = picture()
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    sources = [zipped(tmp_path / "a.zip", files)] if as_zip else [tmp_path / file for file in files]
    gallery = Gallery.collect(sources, tmp_path / "into")
    assert gallery.file_names == ["a-dog.png"]
    assert gallery.captions == [["a dog"]]
    ((skipped, said),) = gallery.skipped
    assert skipped == name
    assert reason in said


def test_duplicate_rows_are_added_up(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"file_name": "a.png", "text": text}) + "\n" for text in ("one", "one", "two"))
    archive = zipped(tmp_path / "a.zip", {"a.png": picture(), "metadata.jsonl": rows.encode()})
    gallery = Gallery.collect([archive], tmp_path / "into")
    assert (gallery.captions, gallery.skipped) == ([["one", "two"]], [])


def test_no_row_is_so_bad_that_the_gallery_cannot_be_kept(tmp_path: Path) -> None:
    rows = '{"file_name": "a.png", "text": "half \\ud83d", "also": ["x\\udc00.png", "../y.png"]}\n'
    archive = zipped(tmp_path / "a.zip", {"a.png": picture(), "metadata.jsonl": rows.encode()})
    Gallery.collect([archive], tmp_path / "into")
    gallery = Gallery.load(tmp_path / "into")
    assert gallery.captions == [["half"]]
    assert sorted(gallery.also[0]) == ["x?.png", "y.png"]


def test_more_files_than_the_limit_are_listed_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcr_core.data.sources.MAX_FILES", 3)
    few, many = (
        zipped(tmp_path / f"{count}.zip", {f"{i}.png": picture(seed=count + i) for i in range(count)})
        for count in (2, 5)
    )
    gallery = Gallery.collect([many, few], tmp_path / "into")
    assert len(gallery) == 2
    assert gallery.skipped == [("5.zip", "brings the files to 5, the limit is 3: import fewer")]
    with pytest.raises(GalleryError, match="5, the limit is 3"):
        Gallery.from_zip(many, tmp_path / "alone")


@pytest.mark.parametrize("how", ["a zip", "a folder", "files", "a zip and files"])
def test_more_pictures_than_the_limit_are_refused_before_one_is_decoded(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "open_image", lambda data, longest: pytest.fail("a picture was decoded"))
    sources = sources_of({f"{i}.PNG": picture(seed=i) for i in range(4)}, how, tmp_path)
    with pytest.raises(GalleryError, match=r"^4 pictures were given, the limit is 3: choose fewer$"):
        Gallery.collect(sources, tmp_path / "home" / "into", max_pictures=3)
    assert everything_below(tmp_path / "home") == []


@pytest.mark.parametrize("how", ["a zip", "a folder", "files", "a zip and files"])
def test_copies_and_other_files_do_not_count_towards_the_limit(how: str, tmp_path: Path) -> None:
    files = {f"{i}.png": picture(seed=i % 3) for i in range(7)} | {"metadata.csv": b"file_name,text\n", "a.txt": b"a"}
    gallery = Gallery.collect(sources_of(files, how, tmp_path), tmp_path / "into", max_pictures=3)
    assert len(gallery) == 3
    assert sum(map(len, gallery.also)) == 4


def test_pictures_that_their_names_hide_are_decoded_until_they_are_more_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr(importer, "open_image", lambda data, longest: decoded.append(data) or open_image(data, longest))
    archive = zipped(tmp_path / "a.zip", {f"{i:03}.dat": picture(seed=i) for i in range(200)})
    with pytest.raises(GalleryError, match=r"^4 or more pictures were given, the limit is 3: choose fewer$"):
        Gallery.collect([archive], tmp_path / "home" / "into", max_pictures=3)
    assert len(decoded) <= 4 + 2 * importer.THREADS + 1
    assert everything_below(tmp_path / "home") == []


def sources_of(files: dict[str, bytes], how: str, folder: Path) -> list[Path]:
    """Files handed over in one of several ways; in the last, each second one is outside the zip."""
    names = list(files)
    packed = {"a zip": names, "a zip and files": names[::2]}.get(how, [])
    loose = [name for name in names if name not in packed]
    (folder / "loose").mkdir()
    for name in loose:
        (folder / "loose" / name).write_bytes(files[name])
    archives = [zipped(folder / "a.zip", {name: files[name] for name in packed})] if packed else []
    return [*archives, *([folder / "loose"] if how == "a folder" else [folder / "loose" / name for name in loose])]


def test_random_bytes_never_break_an_import(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = [picture((40, 40), file_format) for file_format in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    files = {"good.png": picture(seed=99)}
    for i in range(200):
        data = bytearray(whole[i % len(whole)])
        for place in rng.integers(0, len(data), 5):
            data[place] = rng.integers(256)
        files[f"{i}.png"] = bytes(data)
    gallery = Gallery.collect([zipped(tmp_path / "a.zip", files)], tmp_path / "into")
    assert "good.png" in gallery.file_names
    assert len(gallery) + sum(map(len, gallery.also)) + len(gallery.skipped) == 201
