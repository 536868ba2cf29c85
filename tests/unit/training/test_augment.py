"""Augmenter: pictures are held as far as the limit goes, and what is not held looks the same when it is opened anew."""

import random

import pytest
from PIL import ImageChops

from gcr_core.data.gallery import Gallery
from gcr_core.training import augment as augment_module
from gcr_core.training.augment import BYTES_A_PIXEL, HELD_SCALE, Augmenter


class Processor:
    """What is asked of an image processor."""

    size = {"height": 32, "width": 32}  # noqa: RUF012 - as transformers has it


def test_no_more_pictures_are_held_than_the_limit_allows(
    tiny_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = round(HELD_SCALE * 32)
    monkeypatch.setattr(augment_module, "HELD_BYTES", 3 * BYTES_A_PIXEL * side**2)
    augmenter = Augmenter(Processor(), tiny_gallery)
    first, again = ([augmenter.augmented(image, random.Random(image)) for image in range(12)] for _ in range(2))
    assert augmenter.picture.cache_info().currsize == 3
    for one, other in zip(first, again, strict=True):
        assert ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None
