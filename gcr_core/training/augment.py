"""Augment: pictures and texts as training sees them, a little different every time. Knows no model."""

import io
import random
from functools import lru_cache
from typing import Any

from PIL import Image

from gcr_core.data.gallery import Gallery

LARGEST_SIDE = 512
"""pixels that a picture is trained with at most, whatever the model would take"""
KEPT = 2.25
"""how many times the side that the model sees a picture keeps in memory while it is trained on"""
LONGEST = 3
"""times its shorter side that a picture is long at most"""
PICTURE_BYTES = 2**30
"""of reduced pictures that are held; the others are opened anew whenever they are asked for"""
BYTES_A_PIXEL = 4
"""of an RGB picture that Pillow holds"""
SLIPS = 0.1
"""share of the queries that are trained on with a slip of the fingers"""
SHORTENED = 0.3
"""share of the long queries that are trained on with some of their words"""
LONG = 5
"""words of a long query"""


class Augmenter:
    """The pictures of a gallery, reduced to what a model sees and held as far as PICTURE_BYTES go."""

    def __init__(self, image_processor: Any, gallery: Gallery):
        self.side = input_side(image_processor)
        self.square = not getattr(image_processor, "do_center_crop", False)
        held = PICTURE_BYTES // (BYTES_A_PIXEL * round(KEPT * self.side) ** 2)
        self.picture = lru_cache(held)(lambda image: reduced(gallery.open(image), self.side))

    def perturbed(self, image: int, draws: random.Random) -> Image.Image:
        """A picture as `perturb` makes it."""
        return perturb(self.picture(int(image)), self.side, draws, self.square)


def input_side(image_processor: Any) -> int:
    """The pixels of the side that a model sees of a picture, at most LARGEST_SIDE."""
    size = getattr(image_processor, "max_image_size", None) or image_processor.size
    return min(LARGEST_SIDE, max(pixels for pixels in dict(size).values() if pixels))


def reduced(picture: Image.Image, side: int) -> Image.Image:
    """The picture with as many pixels as training on it with that side is worth."""
    picture.thumbnail((round(KEPT * side), round(KEPT * side)), Image.Resampling.LANCZOS)
    return picture


def perturb(picture: Image.Image, side: int, draws: random.Random, square: bool = True) -> Image.Image:
    """The picture cropped, shrunk and compressed at random, so that the memory is of it and not of its file.

    `side`: the pixels that the model will see; the picture comes back with 0.6 to 1.5 times as many, as a square where
    the model sees every picture as one, else in its own shape.
    """
    width, height = picture.size
    share = draws.uniform(0.78, 1.0)
    left, top = draws.uniform(0, width * (1 - share)), draws.uniform(0, height * (1 - share))
    drawn = draws.randrange(round(0.625 * side), round(1.5 * side) + 1)
    shape = (drawn, drawn)
    if not square:
        longer = min(drawn * max(width, height) // min(width, height), LONGEST * drawn)
        shape = (longer, drawn) if width > height else (drawn, longer)
    picture = picture.resize(shape, Image.Resampling.BILINEAR, (left, top, left + width * share, top + height * share))
    if draws.random() < 0.5:
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=draws.randrange(30, 95))
        picture = Image.open(written)
    return picture


def vary(text: str, draws: random.Random) -> str:
    """The text as somebody else might type it: some of its words, or a slip of the fingers."""
    words = text.split()
    if len(words) >= LONG and draws.random() < SHORTENED:
        kept = draws.uniform(0.4, 0.9)
        text = " ".join(word for word in words if draws.random() < kept) or text
    return misspell(text, draws) if draws.random() < SLIPS else text


def misspell(text: str, draws: random.Random) -> str:
    """The text with one slip: a letter left out, doubled, or swapped with the next, or a space lost."""
    if len(text) < 4:
        return text
    at = draws.randrange(1, len(text) - 1)
    left_out = text[:at] + text[at + 1 :]
    doubled = text[:at] + text[at] + text[at:]
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return draws.choice((left_out, doubled, swapped, text.replace(" ", "", 1)))
