"""Gallery: images with captions, in a folder of the Hugging Face ImageFolder convention.

A folder is used where it stands; files, folders and zips in any mix are imported into a new one. Pictures of the same
pixels are one image, with all their captions and names. What cannot be used is left out and listed in `skipped`; the
rest goes on. Knows nothing about models.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from gcr_core.data.images import OTHER_SUFFIXES, SUFFIXES, encoded, fingerprint, is_bare, open_image, shrink
from gcr_core.data.importer import Importer, Sources, check_count, check_files, file_at, files_below
from gcr_core.data.metadata import METADATA_NAMES, checked_captions, checked_row
from gcr_core.errors import GalleryError
from gcr_core.files.atomic import new_folder, write_text
from gcr_core.files.names import printable, safe_name, stays_inside, unique

IMPORT_SIDE = 1024
"""The longest side of an imported picture, in pixels."""
THUMBNAIL_SIDE = 256
"""The longest side of a thumbnail, in pixels."""
THUMBNAILS = ".thumbnails"
"""The folder of an imported gallery that holds its thumbnails; hidden, so that none is taken for an image."""


class Gallery:
    """Images with captions: `file_names[i]` below `root`, `captions[i]` its captions (perhaps none)."""

    root: Path
    file_names: list[str]
    captions: list[list[str]]
    also: list[list[str]]
    """For each image, the other names that the same pixels came under; `index` knows them."""
    skipped: list[tuple[str, str]]
    """(file name or metadata line, why it was left out)."""
    pseudo_queries: list[list[str]]
    """For each image, those of its captions that the model wrote."""
    unsaved: dict[str, bytes]
    """File name → the file, of pictures that `with_pictures` took in since the gallery was saved."""

    def __init__(
        self,
        root: Path,
        file_names: list[str],
        captions: list[list[str]],
        skipped: Iterable[tuple[str, str]] = (),
        also: list[list[str]] | None = None,
        pseudo_queries: list[list[str]] | None = None,
    ) -> None:
        """Raises GalleryError for a name that leaves `root` or stands twice."""
        self.root, self.file_names, self.captions = Path(root), file_names, captions
        self.skipped, self.also = list(skipped), also or [[] for _ in file_names]
        self.pseudo_queries = pseudo_queries or [[] for _ in file_names]
        self.unsaved = {}
        names = [(name, i) for i, others in enumerate(self.also) for name in (file_names[i], *others)]
        self._index = dict(names)
        if len(self._index) != len(names):
            raise GalleryError(f"the gallery {root} names an image twice: keep one row for each file_name")
        for name in file_names:
            if not stays_inside(name):
                raise GalleryError(f"file_name {name!r} leaves the gallery's folder: name files below {root}")

    def __len__(self) -> int:
        return len(self.file_names)

    @property
    def bare(self) -> list[int]:
        """The images without a caption."""
        return [image for image, captions in enumerate(self.captions) if not captions]

    def path(self, index: int) -> Path:
        return self.root / self.file_names[index]

    def thumbnail(self, index: int) -> Path:
        """The file to show in small, at most THUMBNAIL_SIDE pixels long after an import; where none is, the image."""
        small = self.root / THUMBNAILS / self.file_names[index]
        return small if small.exists() else self.path(index)

    def open(self, index: int) -> Image.Image:
        """The image, upright, RGB, at most IMPORT_SIDE long. Raises InputError where the file is gone or damaged."""
        return open_image(self.unsaved.get(self.file_names[index]) or self.path(index), IMPORT_SIDE)

    def has_picture(self, index: int) -> bool:
        """Whether the image's file is here: a memory can be published without its pictures."""
        return self.file_names[index] in self.unsaved or self.path(index).is_file()

    def check_pictures(self) -> None:
        """Raises GalleryError where the pictures are not all here."""
        lacking = sum(not self.has_picture(image) for image in range(len(self)))
        if lacking:
            raise GalleryError(
                f"{lacking:,} of its {len(self):,} pictures are not in this memory: pull or open it with its pictures"
            )

    def index(self, file_name: str) -> int:
        """The image's index, by any of its names. Raises GalleryError for a name that the gallery lacks."""
        try:
            return self._index[file_name]
        except KeyError:
            raise GalleryError(
                f"image {file_name!r} is not in the gallery of {len(self):,} images: name one of its files"
            ) from None

    @classmethod
    def from_folder(cls, root: str | Path) -> "Gallery":
        """The images below a folder, each opened once to see that it can be; names are relative to it.

        Pictures of other kinds are listed in `skipped`, what is no picture by its name is passed over.
        Raises GalleryError for no folder or no image at all.
        """
        root = Path(root)
        if not root.is_dir():
            raise GalleryError(f"gallery {str(root)!r} is no folder: name a folder of images or a zip of one")
        below, wanted = files_below(root), SUFFIXES + METADATA_NAMES
        files = [file_at(path, name) for name, path in below if name.lower().endswith(wanted)]
        others = [printable(name) for name, _ in below if name.lower().endswith(OTHER_SUFFIXES)]
        importer = Importer(
            (name, "is no JPEG, PNG, WebP, GIF or BMP file by its name: save it as one") for name in others
        )
        for name, digest in importer.pictures(files, lambda image, _: fingerprint(image)):
            importer.add(name, name, digest)
        return cls._of(importer, root)

    @classmethod
    def from_zip(cls, archive: str | Path | BinaryIO, into: str | Path) -> "Gallery":
        """`collect` of one zip. Raises GalleryError for what is no zip, over a limit as a whole, or holds no image."""
        try:
            with Path(archive).open("rb") if isinstance(archive, (str, Path)) else nullcontext(archive) as file:
                return cls.collect([file], into)
        except OSError as error:
            raise GalleryError(f"zip {str(archive)!r} cannot be read ({error.strerror}): check its path") from error

    @classmethod
    def collect(
        cls,
        sources: Iterable[str | Path | BinaryIO],
        into: str | Path,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        max_pictures: int = sys.maxsize,
    ) -> "Gallery":
        """The images of files, metadata files, folders and zips in any mix, imported into the new folder `into`.

        Each is decoded, made at most IMPORT_SIDE pixels long and written anew, without metadata, under its own base
        name, made safe and unique; one longer than THUMBNAIL_SIDE gets a thumbnail. `on_progress(done, total)` counts
        files. Raises GalleryError, and leaves nothing behind, where no image can be used, or where there are more than
        `max_pictures`: at once where the files' names and checksums say so, else as soon as so many are decoded.
        """
        into = Path(into)
        if into.exists() and (not into.is_dir() or any(into.iterdir())):
            raise GalleryError(f"folder {str(into)!r} is not empty: import into a new one")
        try:
            with Sources(sources) as given, new_folder(into) as building:
                check_files([(file.name, file.checksum) for file in given.files], max_pictures)
                importer = Importer(given.skipped)
                taken = set(METADATA_NAMES)
                written: set[bytes] = set()
                for path, picture in importer.pictures(given.files, _Picture.made, on_progress):
                    name = unique(_import_name(path), taken)
                    importer.add(path, name, picture.fingerprint)
                    if picture.fingerprint not in written:
                        written.add(picture.fingerprint)
                        check_count(len(written), max_pictures, all_counted=False)
                        picture.write(building, name)
                gallery = cls._of(importer, building)
                gallery._write_metadata(building)
        except OSError as error:
            raise GalleryError(
                f"the gallery cannot be written to {into} ({error.strerror or error}): check path and free space"
            ) from error
        gallery.root = into
        return gallery

    def with_captions(self, captions: list[list[str]]) -> None:
        """Captions all images anew, here and in `metadata.jsonl`; what the model did not write so is a person's.

        Raises GalleryError, and changes nothing, for captions that metadata could not hold.
        """
        if len(captions) != len(self):
            raise GalleryError(f"{len(captions):,} lists of captions for {len(self):,} images: give one for each")
        checked = []
        for name, texts in zip(self.file_names, captions, strict=True):
            try:
                checked.append(checked_captions(texts))
            except ValueError as error:
                raise GalleryError(f"{name}: {error}") from error
        self.captions = checked
        self.pseudo_queries = [
            [text for text in written if text in texts]
            for written, texts in zip(self.pseudo_queries, checked, strict=True)
        ]
        self._write_metadata(self.root)

    def with_pseudo_queries(self, written: dict[int, list[str]]) -> "Gallery":
        """The same images, those named with captions that the model wrote behind the others; no file is touched.

        Raises GalleryError for captions that metadata could not hold.
        """
        captions, pseudo_queries = list(self.captions), list(self.pseudo_queries)
        for image, texts in written.items():
            captions[image] = _checked(self.file_names[image], [*captions[image], *texts])
            new = [text for text in captions[image] if text not in self.captions[image]]
            pseudo_queries[image] = pseudo_queries[image] + new
        gallery = Gallery(self.root, self.file_names, captions, self.skipped, self.also, pseudo_queries)
        gallery.unsaved = self.unsaved
        return gallery

    def with_pictures(self, pictures: list[tuple[str, Image.Image]], captions: list[list[str]]) -> "Gallery":
        """These images and, behind them, new ones under their names made safe and unique; not written before `save`.

        Raises GalleryError for captions that metadata could not hold.
        """
        taken = {name.casefold() for name in (*self._index, *METADATA_NAMES)}
        names = [unique(_import_name(name), taken) for name, _ in pictures]
        gallery = Gallery(
            self.root,
            self.file_names + names,
            self.captions + [_checked(name, texts) for name, texts in zip(names, captions, strict=True)],
            also=self.also + [[] for _ in names],
            pseudo_queries=self.pseudo_queries + [[] for _ in names],
        )
        files = [thumbnail_of(picture, name) for name, (_, picture) in zip(names, pictures, strict=True)]
        gallery.unsaved = self.unsaved | dict(zip(names, files, strict=True))
        return gallery

    def without(self, images: Iterable[int]) -> "Gallery":
        """The other images, in their order; no file is touched before `save`."""
        left = set(images)
        kept = [image for image in range(len(self)) if image not in left]
        gallery = Gallery(
            self.root,
            [self.file_names[image] for image in kept],
            [self.captions[image] for image in kept],
            also=[self.also[image] for image in kept],
            pseudo_queries=[self.pseudo_queries[image] for image in kept],
        )
        gallery.unsaved = {name: file for name, file in self.unsaved.items() if name in gallery._index}
        return gallery

    def save(self, folder: str | Path) -> None:
        """Writes thumbnails, at most THUMBNAIL_SIDE pixels long, and `metadata.jsonl` into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(self.file_names):
            if not self.has_picture(i):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in self.unsaved:
                target.write_bytes(self.unsaved[name])
            elif is_bare(self.thumbnail(i), THUMBNAIL_SIDE):
                shutil.copyfile(self.thumbnail(i), target)
            else:
                target.write_bytes(encoded(self.open(i), THUMBNAIL_SIDE, name))
        self._write_metadata(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Gallery":
        """What `collect` or `save` wrote, in its order, without opening an image. Raises GalleryError."""
        path = Path(folder) / "metadata.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            rows = [checked_row(json.loads(line)) for line in lines if line]
        except (OSError, ValueError, RecursionError) as error:
            raise GalleryError(f"{path} is no saved gallery ({error!r}): save it anew") from error
        names, captions, also, pseudo_queries = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
        return cls(Path(folder), names, captions, also=also, pseudo_queries=pseudo_queries)

    @classmethod
    def _of(cls, importer: Importer, root: Path) -> "Gallery":
        images = importer.images()
        return cls(root, images.file_names, images.captions, importer.skipped, images.also, images.pseudo_queries)

    def _write_metadata(self, folder: Path) -> None:
        columns = zip(self.file_names, self.captions, self.also, self.pseudo_queries, strict=True)
        rows = (
            {"file_name": name, "text": captions}
            | ({"also": also} if also else {})
            | ({"pseudo_queries": written} if written else {})
            for name, captions, also, written in columns
        )
        write_text(folder / "metadata.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@dataclass(frozen=True)
class _Picture:
    """A picture on its way into a gallery: what its own pixels were, and the bytes to write."""

    fingerprint: bytes
    image: bytes
    thumbnail: bytes | None

    @classmethod
    def made(cls, image: Image.Image, path: str) -> "_Picture":
        digest, is_small = fingerprint(image), max(image.size) <= THUMBNAIL_SIDE
        name = _import_name(path)
        return cls(
            digest, encoded(image, IMPORT_SIDE, name), None if is_small else encoded(image, THUMBNAIL_SIDE, name)
        )

    def write(self, folder: Path, name: str) -> None:
        (folder / name).write_bytes(self.image)
        if self.thumbnail is not None:
            (folder / THUMBNAILS).mkdir(exist_ok=True)
            (folder / THUMBNAILS / name).write_bytes(self.thumbnail)


def thumbnail_of(picture: Image.Image, name: str) -> bytes:
    """The bytes of a picture's thumbnail `name`, the same as an import makes."""
    small = picture.copy()
    shrink(small, IMPORT_SIDE)
    return encoded(small, THUMBNAIL_SIDE, name)


def _checked(name: str, captions: list[str]) -> list[str]:
    try:
        return checked_captions(captions)
    except ValueError as error:
        raise GalleryError(f"{name} {error}") from error


def _import_name(path: str) -> str:
    """The file name that a picture asks for: its own, made safe, with a picture's suffix."""
    name = safe_name(path)
    return name if name.lower().endswith(SUFFIXES) else f"{name}.png"
