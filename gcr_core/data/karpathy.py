"""Karpathy's splits: Flickr30K and MS-COCO as papers divide them, from `dataset_flickr30k.json`, `dataset_coco.json`.

The pictures stay where they are and are opened when they are used. Format: Karpathy and Fei-Fei, CVPR 2015. Knows one
JSON file and which pictures are there, opens none.
"""

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from gcr_core.data.gallery import Gallery
from gcr_core.data.metadata import MAX_LISTED, checked_captions
from gcr_core.errors import GalleryError

READ_KEYS = ("images", "file_name", "filepath", "filename", "split", "sentences", "raw")
"""The keys that are read; all others, such as the tokens of sentences, are dropped while the file is parsed."""


class Entry(NamedTuple):
    """One image of a data set."""

    file_name: str
    """Its path below the folder of images: COCO's begin with `filepath`."""
    split: str
    captions: list[str]


def read_entries(path: str | Path, splits: Collection[str]) -> list[Entry]:
    """The entries of some splits, in the file's order. Raises GalleryError for another format or split."""
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            images = json.load(file, object_hook=_kept)["images"]
        entries = [_entry(number, image) for number, image in enumerate(images, start=1)]
    except OSError as error:
        raise GalleryError(f"split file {str(path)!r} cannot be read ({error.strerror}): check its path") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "it has no list of images"
        raise GalleryError(
            f"{str(path)!r} is no Karpathy split ({reason}): name one such as dataset_flickr30k.json"
        ) from error
    counts = Counter(entry.split for entry in entries)
    for split in splits:
        if split not in counts:
            known = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
            raise GalleryError(f"{str(path)!r} has no split {split!r}: choose of {known}")
    return [entry for entry in entries if entry.split in splits]


def read_gallery(
    path: str | Path, images: str | Path, splits: Collection[str] = ("train",), uncaptioned: Collection[str] = ()
) -> Gallery:
    """The images of `splits` with their captions, and those of `uncaptioned` splits without.

    As in GRACE, where the images of the test split are memorised and its captions are kept for the evaluation. Images
    that are not in the folder `images` are listed in `skipped`. Raises GalleryError, also where none is there.
    """
    root = Path(images)
    entries = read_entries(path, (*splits, *uncaptioned))
    there = [entry for entry in entries if (root / entry.file_name).is_file()]
    if not there:
        raise GalleryError(
            f"{str(root)!r} has 0 of {len(entries):,} images, such as {entries[0].file_name!r}: "
            "name the folder that they were unpacked into"
        )
    captions = [[] if entry.split in uncaptioned else entry.captions for entry in there]
    found = {entry.file_name for entry in there}
    reason = f"the split names it but {root} has no such image"
    lost = [entry.file_name for entry in entries if entry.file_name not in found]
    skipped = [(name, reason) for name in lost[:MAX_LISTED]]
    if len(lost) > MAX_LISTED:
        skipped.append((f"{len(lost) - MAX_LISTED:,} more", reason))
    return Gallery(root, [entry.file_name for entry in there], captions, skipped)


def _kept(fields: dict[str, Any]) -> dict[str, Any]:
    """A JSON object without the tokens and numbers that make up most of these files."""
    return {name: value for name, value in fields.items() if name in READ_KEYS}


def _entry(number: int, image: Any) -> Entry:
    """Raises ValueError saying what is wrong with an image's entry."""
    if not isinstance(image, dict):
        raise ValueError(f"image {number:,} is no JSON object")
    if "file_name" in image:
        raise ValueError("it is of COCO's form, without splits: put it beside its pictures and memorize that folder")
    name, split, below = image.get("filename"), image.get("split"), image.get("filepath", "")
    if not (isinstance(name, str) and name and isinstance(split, str) and isinstance(below, str)):
        raise ValueError(f"image {number:,} has no filename or no split")
    try:
        captions = checked_captions([sentence["raw"] for sentence in image.get("sentences", [])])
    except (TypeError, KeyError):
        raise ValueError(f"image {number:,} has a sentence without raw text") from None
    except ValueError as error:
        raise ValueError(f"image {number:,} {error}") from None
    below, name = below.replace("\\", "/"), name.replace("\\", "/")
    return Entry((PurePosixPath(below) / name).as_posix(), split, captions)
