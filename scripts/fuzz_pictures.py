"""Hands mutated pictures of every format to the guarded loader: each must end in a picture or in one line.

    python scripts/fuzz_pictures.py [--count 5000] [--seed 0] [--formats HEIF AVIF] [--keep FOLDER]

They are opened one by one in a process that may take MEMORY_BYTES more than it begins with; one that takes longer than
SECONDS of the processor, ends that process, or raises anything but InputError in one line is a fault. Faults are kept
in a folder and end the script with status 1. Linux only.
"""

import argparse
import io
import multiprocessing
import random
import resource
import sys
import time
from collections import Counter
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from pillow_heif import register_heif_opener

from gcr_core.data.formats import NAMES
from gcr_core.data.images import open_image
from gcr_core.data.pictures import IMPORT_SIDE
from gcr_core.errors import InputError

SECONDS = 2.0
"""The most time of the processor that a picture may take."""
PATIENCE_SECONDS = 60
"""After so long on the clock an opening is taken for hung."""
MEMORY_BYTES = 512 * 2**20
NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\0\0",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\1",
)
"""What lengths and counts are when somebody means harm."""
VARIANTS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "JPEG": (("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}), ("RGB", {"profile": True})),
    "PNG": (("RGB", {}), ("RGBA", {}), ("P", {}), ("I;16", {}), ("1", {}), ("LA", {}), ("RGB", {"profile": True})),
    "WEBP": (("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", {"film": True}), ("RGB", {"profile": True})),
    "GIF": (("P", {}), ("L", {}), ("P", {"film": True})),
    "BMP": (("RGB", {}), ("P", {}), ("1", {}), ("RGBA", {})),
    "HEIF": (("RGB", {}), ("RGBA", {}), ("L", {}), ("RGB", {"profile": True}), ("RGB", {"film": True})),
    "AVIF": (("RGB", {}), ("RGBA", {}), ("RGB", {"profile": True}), ("RGB", {"film": True})),
}
"""The pictures that are mutated: mode, and how they are written."""


@cache
def samples(file_format: str) -> list[bytes]:
    """Small pictures of a format."""
    register_heif_opener(decode_threads=1)
    noise = np.random.default_rng(0).integers(0, 255, (8, 12, 4), np.uint8)
    picture = Image.fromarray(noise).resize((96, 64))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))  # else it is not applied
    written = []
    for mode, options in VARIANTS[file_format]:
        options, exif, buffer = dict(options), Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        if options.pop("profile", False) and file_format != "BMP":
            options |= {"icc_profile": profile, "exif": exif.tobytes()}
        if options.pop("film", False):
            options |= {"save_all": True, "append_images": [picture.convert(mode).rotate(90)] * 2}
        grey = np.asarray(picture.convert("L"), np.uint16) * 257
        made = (
            Image.fromarray(grey)
            if mode == "I;16"
            else picture.convert("RGB").convert(mode)
            if mode != "RGBA"
            else picture
        )
        made.save(buffer, file_format, **options)
        written.append(buffer.getvalue())
    return written


def mutated(data: bytes, others: list[bytes], draws: random.Random) -> bytes:
    """A picture with one to eight changes: bytes, numbers, pieces left out, doubled, moved, or another picture's."""
    changed = bytearray(data)
    for _ in range(draws.choice((1, 1, 2, 4, 8))):
        at, length = draws.randrange(len(changed) or 1), draws.choice((1, 2, 4, 16, 200, 2000))
        # Headers are short, and harm is done there.
        at = draws.randrange(min(600, len(changed)) or 1) if draws.random() < 0.6 else at
        match draws.randrange(8):
            case 0 | 1:
                changed[at : at + 1] = bytes([draws.randrange(256)])
            case 2:
                number = draws.choice(NUMBERS)
                changed[at : at + len(number)] = number
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length] * draws.choice((1, 1, 1, 300))
            case 5:
                other = draws.choice(others)
                start = draws.randrange(len(other))
                changed[at : at + length] = other[start : start + length]
            case 6:
                del changed[draws.randrange(len(changed) or 1) :]
            case 7:
                changed[at : at + length] = draws.randbytes(length)
    return bytes(changed)


class Opener:
    """A process of its own that opens pictures; one that has ended is begun again."""

    def __init__(self) -> None:
        self._process: Any = None

    def __call__(self, data: bytes) -> str:
        """How it ended: "picture", "line", or the fault in words."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_open_all, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send_bytes(data)
            if self._pipe.poll(PATIENCE_SECONDS):
                return str(self._pipe.recv())
            fault = f"no answer in {PATIENCE_SECONDS} s"
        except (EOFError, OSError):
            self._process.join(PATIENCE_SECONDS)
            fault = f"the process ended with {self._process.exitcode}"
        self.end()
        return fault

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = None


def _open_all(pipe: Connection) -> None:
    for file_format in NAMES:
        open_image(samples(file_format)[0])
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        began = time.process_time()
        try:
            open_image(data, IMPORT_SIDE)
            end = "picture"
        except InputError as error:
            end = "line" if "\n" not in str(error) else f"two lines: {error}"
        except BaseException as error:
            end = f"{type(error).__name__}: {error}"
        took = time.process_time() - began
        pipe.send(end if took <= SECONDS else f"{took:.1f} s: {end}")


def fuzz(count: int, seed: int, formats: list[str], keep: Path | None) -> tuple[Counter[str], list[str]]:
    """How many ended in a picture and in a line, and the faults."""
    draws, ends, faults, opener = random.Random(seed), Counter[str](), list[str](), Opener()
    everything = [sample for file_format in NAMES for sample in samples(file_format)]
    for number in range(count):
        file_format = formats[number % len(formats)]
        data = mutated(draws.choice(samples(file_format)), everything, draws)
        end = opener(data)
        ends[end if end in ("picture", "line") else "fault"] += 1
        if end not in ("picture", "line"):
            faults.append(f"{file_format} {number}: {end}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{number}.{file_format.lower()}").write_bytes(data)
    opener.end()
    return ends, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="where faults are written")
    options = parser.parse_args()
    began = time.monotonic()
    ends, faults = fuzz(options.count, options.seed, options.formats, options.keep)
    print(f"{options.count:,} in {time.monotonic() - began:.0f} s: {dict(ends)}")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
