"""Hostile files: pictures and memories such as strangers send who mean harm."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def pictures() -> list[bytes]:
    """Pictures of many scans, and the largest ones."""
    noise = Image.effect_noise((8000, 8000), 9)
    return [
        scanned(16000, 4000, 250),
        scanned(1000, 1000, 500),
        encoded(noise.convert("RGB"), "JPEG", progressive=True, subsampling=0, quality=20),
        encoded(Image.new("RGBA", (8000, 8000)), "PNG", compress_level=1),
        encoded(Image.new("P", (8000, 8000)), "GIF"),
    ]


def gallery() -> bytes:
    """A zip of six of the largest pictures."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(6):
            archive.writestr(
                f"{number}.png", encoded(Image.new("RGBA", (8000, 8000 - number)), "PNG", compress_level=1)
            )
    return buffer.getvalue()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scanned(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times."""
    data = encoded(Image.effect_noise((width, height), 9), "JPEG", progressive=True, quality=30)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def rewritten(archive: bytes, member: str, change: dict[str, Any]) -> bytes:
    """A zip with other values in the JSON object that is one of its members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, json.dumps(json.loads(data) | change) if name == member else data)
    return buffer.getvalue()


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


def replaces(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def memories() -> Iterator[bytes]:
    """The memory that ships as somebody who means harm has changed it, and as it is."""
    yield (whole := zipped(ROOT / "checkpoints" / "emoji"))
    exploding = replaces({"Regex": "(a*)*b"}, "")
    growing = {"type": "Sequence", "normalizers": [replaces({"String": "a"}, "aa")] * 23}
    wide = {"image_processor_type": "CLIPImageProcessor", "size": {"height": 8000, "width": 8000}}
    for member, change in (
        ("model/tokenizer.json", {"normalizer": exploding}),
        ("model/tokenizer.json", {"normalizer": growing}),
        ("model/processor_config.json", {"image_processor": wide}),
        ("model/config.json", {"text_config": {"num_hidden_layers": 400}}),
        ("dense/clip/tokenizer.json", {"normalizer": exploding}),
    ):
        yield rewritten(whole, member, change)
