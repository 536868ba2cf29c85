"""Staging: a gallery before it is memorised. Another batch comes in, single images are taken out and put back.

Every file stays in the gallery's folder; what was taken out is listed in a `metadata.jsonl` of its own below TAKEN_OUT
there, so that its captions can be edited still. Images are named by their files, as their places change.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gcr_core.data.caption_files import METADATA_NAMES
from gcr_core.data.gallery import Gallery
from gcr_core.data.metadata import MAX_CAPTIONS, add_captions, checked_album
from gcr_core.data.pictures import THUMBNAILS, fingerprints, note_fingerprints
from gcr_core.data.sources import check_count
from gcr_core.errors import GalleryError, GcrError
from gcr_core.files.atomic import changing
from gcr_core.files.names import printable, unique

TAKEN_OUT = ".taken-out"
"""The folder, below a gallery's, of what was taken out of it; hidden, so that nothing in it is taken for an image."""


class Merged(NamedTuple):
    """What became of a batch."""

    added: int
    """The images that are new."""
    doubles: list[tuple[str, str]]
    """(name in the batch, the image that has the same pixels) of those that were there already."""


def taken_out(folder: Path) -> Gallery:
    """What was taken out of the gallery in a folder: its names and captions; the pictures are the gallery's."""
    below = folder / TAKEN_OUT
    return Gallery.load(below) if (below / "metadata.jsonl").exists() else Gallery(below, [], [])


def holding(folder: Path, file_name: str) -> tuple[Gallery, int]:
    """The gallery in a folder, or what was taken out of it, whichever has the image, and its index there.

    Raises GalleryError for a name that neither has.
    """
    gallery, out = _both(folder)
    holder = out if file_name in out.file_names else gallery
    return holder, holder.index(file_name)


def album_of(sources: Sequence[Path]) -> str:
    """The album that a batch is: the folder that it came as, where that is one, and no gallery with metadata of its
    own; else "". Several folders are albums without that."""
    if len(sources) > 1 or not sources[0].is_dir():
        return ""
    if any(path.name.lower() in METADATA_NAMES for path in sources[0].iterdir()):
        return ""
    try:
        return checked_album(printable(sources[0].name))
    except ValueError:
        return ""


def merge(folder: Path, batch: Gallery, max_pictures: int, album: str = "") -> Merged:
    """Moves a batch, a gallery imported into another folder of the same disk, into the gallery in `folder`.

    Its images are in `album`, or in albums below that. An image that is there already gets the captions, the name and,
    where it has none, the album of its double; one that was taken out is put back with them. Raises GalleryError, and
    changes nothing, for more than `max_pictures`; where it fails later, what it has moved and no list names is removed.
    """
    with changing(folder):
        try:
            return _merged(folder, batch, max_pictures, album)
        except BaseException:
            _remove_unlisted(folder)
            raise


def sweep(folder: Path) -> None:
    """Removes what a merge that was killed has moved into a gallery's folder and no list names; nothing where the
    gallery is damaged. Waits for a merge that is under way."""
    with suppress(GcrError, OSError), changing(folder):
        _remove_unlisted(folder)


def take_out(folder: Path, file_names: Collection[str]) -> int:
    """Takes images out of the gallery in a folder; returns how many it had of them.

    Raises GalleryError, and changes nothing, where none would be left.
    """
    (gallery, out), leaving = _both(folder), set(file_names)
    gone = [image for image, name in enumerate(gallery.file_names) if name in leaving]
    if len(gone) == len(gallery):
        raise GalleryError(f"all {len(gallery):,} pictures would be removed: keep one, or discard them all")
    _list_out(_behind(out, gallery, gone))
    kept = gallery.without(gone)
    kept.with_captions(kept.captions)
    return len(gone)


def put_back(folder: Path, max_pictures: int) -> None:
    """Puts all back, behind the others. Raises GalleryError, and changes nothing, for more than `max_pictures`."""
    gallery, out = _both(folder)
    check_count(len(gallery) + len(out), max_pictures)
    whole = _behind(gallery, out, range(len(out)))
    whole.with_captions(whole.captions)
    _list_out(out.without(range(len(out))))


def _merged(folder: Path, batch: Gallery, max_pictures: int, album: str) -> Merged:
    gallery, out = _both(folder)
    batch.albums = ["/".join(filter(None, (album, below))) for below in batch.albums]
    there = [(part, image) for part in (gallery, out) for image in range(len(part))]
    doubles = _doubles(there, batch, folder)
    new = [image for image in range(len(batch)) if image not in doubles]
    back = list(dict.fromkeys(name for name in doubles.values() if name in out.file_names))
    check_count(len(gallery) + len(back) + len(new), max_pictures)
    taken = {name.casefold() for part, image in there for name in (part.file_names[image], *part.also[image])}
    taken |= {name.casefold() for name in METADATA_NAMES}
    digests, moved = fingerprints(batch.root), dict[str, str]()
    for image in new:
        name = unique(batch.file_names[image], taken)
        moved[name] = digests[batch.file_names[image]]
        _move(batch, image, folder, name)
        batch.also[image] = _free(batch.also[image], taken)
    note_fingerprints(folder, moved)
    merged = _behind(_behind(gallery, out, [out.index(name) for name in back]), batch, new)
    for image, name in doubles.items():
        _give(merged, merged.index(name), batch, image, taken)
    merged.with_captions(merged.captions)
    _list_out(out.without(out.index(name) for name in back))
    again = [(batch.file_names[image], name) for image, name in doubles.items() if name not in back]
    return Merged(len(new) + len(back), again)


def _remove_unlisted(folder: Path) -> None:
    with suppress(GalleryError):
        listed = {"metadata.jsonl", *(name for part in _both(folder) for name in part.file_names)}
        for place in filter(Path.is_dir, (folder, folder / THUMBNAILS)):
            for path in place.iterdir():
                if not path.name.startswith(".") and path.name not in listed:
                    path.unlink(missing_ok=True)


def _both(folder: Path) -> tuple[Gallery, Gallery]:
    """The gallery, and what was taken out of it: of what both list, as after a crash, the gallery's row stays."""
    gallery, out = Gallery.load(folder), taken_out(folder)
    names = set(gallery.file_names)
    return gallery, out.without(image for image, name in enumerate(out.file_names) if name in names)


def _behind(gallery: Gallery, more: Gallery, images: Iterable[int]) -> Gallery:
    """A gallery with some images of another behind its own."""
    return gallery.joined([*range(len(gallery)), *(len(gallery) + image for image in images)], more)


def _list_out(out: Gallery) -> None:
    out.root.mkdir(exist_ok=True)
    out.with_captions(out.captions)


def _doubles(there: list[tuple[Gallery, int]], batch: Gallery, folder: Path) -> dict[int, str]:
    """The images of a batch that are there: those whose pixels were the same when they were imported."""
    listed = {part.file_names[image] for part, image in there}
    known = {digest: name for name, digest in fingerprints(folder).items() if name in listed}
    digests = fingerprints(batch.root)
    found = {image: known.get(digests.get(name, "")) for image, name in enumerate(batch.file_names)}
    return {image: name for image, name in found.items() if name}


def _move(batch: Gallery, image: int, folder: Path, name: str) -> None:
    """Moves a picture, and its thumbnail where it has one, and gives it the name that it has from now on."""
    small = batch.thumbnail(image)
    if small != batch.path(image):
        (folder / THUMBNAILS).mkdir(exist_ok=True)
        small.replace(folder / THUMBNAILS / name)
    batch.path(image).replace(folder / name)
    batch.file_names[image] = name


def _give(gallery: Gallery, image: int, batch: Gallery, double: int, taken: set[str]) -> None:
    """Gives an image what its double in a batch brings along."""
    known: dict[str, bool] = {}
    for part, i in ((gallery, image), (batch, double)):
        add_captions(known, {text: text in part.pseudo_queries[i] for text in part.captions[i]})
    kept = list(known.items())[:MAX_CAPTIONS]
    gallery.captions[image] = [text for text, _ in kept]
    gallery.pseudo_queries[image] = [text for text, written in kept if written]
    gallery.also[image] = gallery.also[image] + _free([batch.file_names[double], *batch.also[double]], taken)
    gallery.albums[image] = gallery.albums[image] or batch.albums[double]


def _free(names: list[str], taken: set[str]) -> list[str]:
    """Those of the names that no image has in any case; then taken."""
    free = [name for name in names if name.casefold() not in taken]
    taken |= {name.casefold() for name in free}
    return free
