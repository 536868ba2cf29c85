"""A gallery of 60 files as people bring them: every format, odd names, near-miss metadata, what systems leave."""

import json
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pictures import encoded

METADATA = """\ufeffFile Name;Caption
IMG_0001.JPG;a red boat; on a lake
.\\beach\\DSC_0002.png;"a blue car"
FOR\u00caT.webp;a green forest
gone.png;nobody
IMG_0003.gif;"an open quote
IMG_0004.bmp;a tree
"""


def mixed_files() -> dict[str, bytes]:
    """By path: the 60 files."""
    seeds = iter(range(1, 100))

    def new(file_format: str = "PNG") -> bytes:
        noise = np.random.default_rng(next(seeds)).integers(0, 255, (9, 12, 3), np.uint8)
        return encoded(Image.fromarray(noise), file_format)

    double = new()
    files = {
        "IMG_0001.JPG": new("JPEG"),
        "beach/DSC_0002.png": new(),
        unicodedata.normalize("NFD", "for\u00eat.webp"): new("WEBP"),
        "IMG_0003.gif": new("GIF"),
        "IMG_0004.bmp": new("BMP"),
        "a-motorbike.jfif": new("JPEG"),
        "an old train.jpe": new("JPEG"),
        "two frames.mpo": encoded(Image.new("RGB", (8, 8), "red"), "MPO", save_all=True),
        "a dog without a suffix": new("JPEG"),
        "a cat called.gif": new("PNG"),
        "beach/a phone's picture.heic": new("HEIF"),
        "beach/a browser's picture.avif": new("AVIF"),
        "town/day 1/\u0932\u093e\u0932 \u0928\u093e\u0935.png": new(),
        "town/day 1/\u0e40\u0e23\u0e37\u0e2d\u0e2a\u0e35\u0e41\u0e14\u0e07.png": new(),
        "town/#sunset at the beach!.png": new(),
        "town/grandma\u2019s house.png": new(),
        "town/double.png": double,
        "beach/its double.png": double,
        "DJI_0001.png": new(),
        "WhatsApp Image 2021-01-01 at 10.11.12 (1).png": new(),
        "beach/PXL_20230101_101112123.RAW-01.COVER.jpg": new("JPEG"),
        "beach/PXL_20230101_101112123.RAW-02.ORIGINAL.dng": b"II*\0 raw",
        "IMG_0005.jpg": new("JPEG"),
        "IMG_0005.CR2": b"II*\0 raw",
        "IMG_0006.jpg": new("JPEG"),
        "IMG_0006.MOV": b"\0\0\0\x14ftypqt  ",
        "town/IMG_0007.nef": b"MM\0* raw",
        "town/VID_0008.mp4": b"\0\0\0\x18ftypmp42",
        "train/IMG_0009.png": new(),
        "train/IMG_0009.txt": b"a sparrow, on a twig\n",
        "train/IMG_0010.png": new(),
        "train/IMG_0010.jpg.json": b"{}",
        "train/IMG_0011.txt": b"a picture that is gone",
        "test/IMG_0012.png": new(),
        "test/train_metadata.jsonl": b'{"file_name": "IMG_0012.png", "caption": "a lighthouse"},\n{"caption": "x"}\n',
        "captions.json": json.dumps({"IMG_0005.jpg": ["a bridge", "an arch"]}).encode(),
        "metadata.csv": METADATA.encode(),
        "labels.csv": b"lat,lon\n1,2\n",
        "captions.xlsx": b"PK\3\4",
        "notes.txt": b"not an image",
        "README.md": b"# Photographs",
        "page.html": b"<html></html>",
        "scan.tif": b"II*\0 tiff",
        "drawing.svg": b"<svg/>",
        "broken.jpg": b"\xff\xd8\xff",
        "empty.png": b"",
    }
    files |= {f"holiday/holiday_{number}.png": new() for number in range(1, 6)}
    left_behind = "@eaDir/a.JPG/SYNOPHOTO_THUMB_M.jpg .thumbnails/a.png Thumbs.db ._a.JPG .picasaoriginals/b.png"
    files |= dict.fromkeys([*left_behind.split(), "__MACOSX/._c.png", ".dtrash/d.png", "desktop.ini"], new("JPEG"))
    files["beach/Thumbs.db"] = b"\xd0\xcf\x11\xe0"
    return files


def laid(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def as_zip(path: Path, folder: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, top + file.relative_to(folder).as_posix())
    return path


def as_tar(path: Path, folder: Path, top: str = ".") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, top)
    return path
