"""Augmentation: pictures and texts as training sees them, a little different every time. Knows no model."""

import io
import random
from functools import lru_cache
from typing import Any

from PIL import Image

from gcr_core.data.gallery import Gallery

MAX_SIDE = 512
"""The longest side, in pixels, that pictures are trained with, whatever the model would take."""
HELD_SCALE = 2.25
"""The side of a picture that is held in memory, as a multiple of the side that the model sees."""
MAX_ASPECT_RATIO = 3
"""The longer side of an augmented picture, as a multiple of the shorter one, is at most this."""
HELD_BYTES = 2**30
"""The memory that reduced pictures may take; those beyond it are opened anew whenever they are asked for."""
BYTES_A_PIXEL = 4
"""The bytes that Pillow takes for a pixel of an RGB picture."""
TYPO_SHARE = 0.1
"""The share of the queries that are trained on with a typing error."""
SHORTENED_SHARE = 0.3
"""The share of the long queries that are trained on with only some of their words."""
LONG_QUERY_WORDS = 5
"""The fewest words of a long query."""


class Augmenter:
    """Augments the pictures of a gallery, which are reduced to what a model sees and held as far as HELD_BYTES go."""

    def __init__(self, image_processor: Any, gallery: Gallery):
        self.side = input_side(image_processor)
        self.square = not getattr(image_processor, "do_center_crop", False)
        held = HELD_BYTES // (BYTES_A_PIXEL * round(HELD_SCALE * self.side) ** 2)
        self.picture = lru_cache(held)(lambda image: reduced(gallery.open(image), self.side))

    def augmented(self, image: int, draws: random.Random) -> Image.Image:
        """A picture as `augment` makes it."""
        return augment(self.picture(int(image)), self.side, draws, self.square)


def input_side(image_processor: Any) -> int:
    """The pixels of the side that a model sees of a picture, at most MAX_SIDE."""
    size = getattr(image_processor, "max_image_size", None) or image_processor.size
    return min(MAX_SIDE, max(pixels for pixels in dict(size).values() if pixels))


def reduced(picture: Image.Image, side: int) -> Image.Image:
    """The picture, in place, with no more pixels than a model that sees `side` of them can use."""
    picture.thumbnail((round(HELD_SCALE * side), round(HELD_SCALE * side)), Image.Resampling.LANCZOS)
    return picture


def augment(picture: Image.Image, side: int, draws: random.Random, square: bool = True) -> Image.Image:
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
        longer = min(drawn * max(width, height) // min(width, height), MAX_ASPECT_RATIO * drawn)
        shape = (longer, drawn) if width > height else (drawn, longer)
    picture = picture.resize(shape, Image.Resampling.BILINEAR, (left, top, left + width * share, top + height * share))
    if draws.random() < 0.5:
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=draws.randrange(30, 95))
        picture = Image.open(written)
    return picture


def vary(text: str, draws: random.Random) -> str:
    """The text as somebody else might type it: only some of its words, or with a typing error."""
    words = text.split()
    if len(words) >= LONG_QUERY_WORDS and draws.random() < SHORTENED_SHARE:
        kept = draws.uniform(0.4, 0.9)
        text = " ".join(word for word in words if draws.random() < kept) or text
    return misspell(text, draws) if draws.random() < TYPO_SHARE else text


def misspell(text: str, draws: random.Random) -> str:
    """The text with one typing error: a letter left out, doubled, or swapped with the next, or a space lost."""
    if len(text) < 4:
        return text
    at = draws.randrange(1, len(text) - 1)
    left_out = text[:at] + text[at + 1 :]
    doubled = text[:at] + text[at] + text[at:]
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return draws.choice((left_out, doubled, swapped, text.replace(" ", "", 1)))
