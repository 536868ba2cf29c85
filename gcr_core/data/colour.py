"""Colour: what a decoder gives, in any mode, as sRGB on white.

Colour profiles (ICC) are applied, grey of 16 bits is scaled to 8, and transparency is laid on white. A picture is taken
band by band, so that no second one of its size is in memory, and is made smaller on the way. Knows no files.
"""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageCms

BAND_PIXELS = 2**22
"""How many pixels of a picture are converted at a time, to save memory."""
SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""Mode → how profiles call its colours."""
Convert = Callable[[Image.Image], Image.Image]


def on_white(
    image: Image.Image,
    profile: bytes | None = None,
    clear: tuple[int, ...] | None = None,
    depth: int = 8,
    factor: int = 1,
) -> Image.Image:
    """A new RGB picture of a decoded one, `factor` times smaller. A profile that is broken, or of other colours than
    the picture's, is left out.

    `clear`: the colour whose pixels are transparent, in numbers of `depth` bits.
    """
    flat = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)), "white")
    convert: Convert | None = None
    for box in bands(image, factor):
        colour, alpha = _parts(image.crop(box), clear, depth)
        if factor > 1:
            colour, alpha = _reduced(colour, alpha, factor)
        convert = convert or to_srgb(profile, colour.mode)
        flat.paste(convert(colour), (0, box[1] // factor), alpha)
    return flat


def bands(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover the image from top to bottom, of a multiple of `factor` rows but the last: what is made of one
    does not take as much memory as all of it."""
    rows = max(1, BAND_PIXELS // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def to_srgb(profile: bytes | None, mode: str) -> Convert:
    """What makes sRGB of pictures of a mode, L, RGB or CMYK, in the colours of a profile."""

    def plain(picture: Image.Image) -> Image.Image:
        return picture.convert("RGB")

    if profile is None:
        return plain
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if given.profile.xcolor_space.strip() != SPACES[mode] or "sRGB" in (given.profile.profile_description or ""):
            return plain
        transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # ImageCms raises what reading a stranger's profile comes to.
        return plain

    def converted(picture: Image.Image) -> Image.Image:
        made = ImageCms.applyTransform(picture, transform)
        assert made is not None  # it was not asked to work in place
        return made

    return converted


def _parts(band: Image.Image, clear: tuple[int, ...] | None, depth: int) -> tuple[Image.Image, Image.Image | None]:
    """The colours of a band, in mode L, RGB or CMYK, and its opacity, in mode L; None where it is all opaque."""
    if band.mode.startswith("I"):
        grey = np.asarray(band)
        return Image.fromarray((grey >> 8).clip(0, 255).astype(np.uint8)), _opaque(grey[..., None], clear)
    if band.mode == "1":
        band = band.convert("L")
    if clear is not None:
        shades = np.asarray(band).reshape(band.height, band.width, -1)
        return band, _opaque(shades, tuple(_eight_bits(number, depth) for number in clear))
    if band.has_transparency_data:
        band = band.convert("LA" if band.mode in ("LA", "La") else "RGBA")
        return band.convert(band.mode[:-1]), band.getchannel("A")
    return band if band.mode in SPACES else band.convert("RGB"), None


def _opaque(numbers: np.ndarray, clear: tuple[int, ...] | None) -> Image.Image | None:
    """Full opacity for all pixels (height, width, numbers) but those of one colour."""
    if clear is None or len(clear) != numbers.shape[-1]:
        return None
    return Image.fromarray(np.where((numbers == clear).all(-1), 0, 255).astype(np.uint8))


def _eight_bits(number: int, depth: int) -> int:
    return number >> 8 if depth == 16 else number * 255 // (2**depth - 1)


def _reduced(colour: Image.Image, alpha: Image.Image | None, factor: int) -> tuple[Image.Image, Image.Image | None]:
    """Both made smaller; colours count as much as they are opaque."""
    if alpha is None:
        return colour.reduce(factor), None
    both = Image.merge(f"{colour.mode}A", (*colour.split(), alpha)).reduce(factor)
    return both.convert(colour.mode), both.getchannel("A")
