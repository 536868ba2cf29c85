"""Gallery: images with captions, in a folder of the Hugging Face ImageFolder convention.

A folder is used where it stands; files, folders and archives in any mix are imported into a new one. A sub-folder is an
album. Pictures of the same pixels are one image, with all their captions and names, in the album of the first that is
in one. What cannot be used is left out and listed in `skipped`; the rest goes on. Knows nothing about models.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from gcr_core.data.caption_files import METADATA_NAMES
from gcr_core.data.formats import HEAD_BYTES, format_of
from gcr_core.data.images import fingerprint, open_image
from gcr_core.data.importer import Importer
from gcr_core.data.kinds import is_archive
from gcr_core.data.metadata import checked_album, checked_captions, checked_row
from gcr_core.data.pictures import (
    IMPORT_SIDE,
    MODEL_SIDE,
    THUMBNAIL_SIDE,
    THUMBNAILS,
    Files,
    Imported,
    import_name,
    put,
)
from gcr_core.data.sources import Sources, check_count, check_files, files_below
from gcr_core.errors import GalleryError, InputError
from gcr_core.files.atomic import new_folder, write_text
from gcr_core.files.names import stays_inside, unique

NAMED_ALBUMS = 5
"""How many of a gallery's albums a message names."""


class Gallery:
    """Images with captions: `file_names[i]` below `root`, `captions[i]` its captions (perhaps none)."""

    root: Path
    file_names: list[str]
    captions: list[list[str]]
    also: list[list[str]]
    """For each image, the other names that the same pixels came under; `index` knows them."""
    skipped: list[tuple[str, str]]
    """(file name or metadata line, why it was left out)."""
    notes: list[tuple[str, str]]
    """(files or caption, what was read otherwise than written, or is to be known of them)."""
    pseudo_queries: list[list[str]]
    """For each image, those of its captions that the model wrote."""
    albums: list[str]
    """For each image, the album that it is in, the folders of a nested one joined by "/"; "" for none."""
    unsaved: dict[str, Files]
    """File name → its files, of pictures that came in since the gallery was saved."""
    originals: Path | None
    """Where a memory keeps the pictures that are larger than their thumbnails; None for a gallery of its own."""

    def __init__(
        self,
        root: Path,
        file_names: list[str],
        captions: list[list[str]],
        skipped: Iterable[tuple[str, str]] = (),
        also: list[list[str]] | None = None,
        pseudo_queries: list[list[str]] | None = None,
        albums: list[str] | None = None,
        notes: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Raises GalleryError for a name that leaves `root` or stands twice."""
        self.root, self.file_names, self.captions = Path(root), file_names, captions
        self.skipped, self.notes, self.also = list(skipped), list(notes), also or [[] for _ in file_names]
        self.pseudo_queries = pseudo_queries or [[] for _ in file_names]
        self.albums = albums or [""] * len(file_names)
        self.unsaved, self.originals = {}, None
        names = [(name, i) for i, others in enumerate(self.also) for name in (file_names[i], *others)]
        self._index = dict(names)
        if len(self._index) != len(names):
            raise GalleryError(f"the gallery {root} names an image twice: keep one row for each file_name")
        for name in file_names:
            if not stays_inside(name):
                raise GalleryError(f"file_name {name!r} leaves the gallery's folder: name files below {root}")

    def __len__(self) -> int:
        return len(self.file_names)

    def __contains__(self, file_name: object) -> bool:
        """Whether an image has this name, or had it once."""
        return file_name in self._index

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

    def original(self, index: int) -> Path:
        """The file to show in large; where a memory keeps none, the image."""
        large = self.originals / self.file_names[index] if self.originals else None
        return large if large and large.exists() else self.path(index)

    def open(self, index: int) -> Image.Image:
        """The image, upright, RGB, at most MODEL_SIDE long. Raises InputError where the file is gone or damaged."""
        files = self.unsaved.get(self.file_names[index])
        return open_image(files.small if files else self.path(index), MODEL_SIDE)

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

    @property
    def album_sizes(self) -> dict[str, int]:
        """Album → its images, by name."""
        return dict(sorted(Counter(filter(None, self.albums)).items()))

    def in_album(self, album: str) -> list[int]:
        """The images of an album. Raises InputError, naming a few, for one that the gallery lacks."""
        images = [image for image, name in enumerate(self.albums) if name == album]
        if not album or not images:
            known = list(self.album_sizes)
            named = ", ".join(map(repr, known[:NAMED_ALBUMS])) + (", ..." if len(known) > NAMED_ALBUMS else "")
            raise InputError(
                f"there is no album {album[:40]!r}: "
                + (f"name one of {len(known):,}, such as {named}" if known else "this gallery has no albums")
            )
        return images

    @classmethod
    def from_folder(cls, root: str | Path) -> "Gallery":
        """The images below a folder, each opened once to see that it can be; names are relative to it.

        Archives are listed in `skipped` with what cannot be used. Raises GalleryError for no folder or no image at all.
        """
        root = Path(root)
        if not root.is_dir():
            raise GalleryError(f"gallery {str(root)!r} is no folder: name a folder of images or an archive of one")
        with Sources([root], sys.maxsize, archives=False) as given:
            importer = Importer(given.skipped)
            for name, digest in importer.pictures(given.files, lambda image, _: fingerprint(image)):
                importer.add(name, name, digest)
        return cls._of(importer, root)

    @classmethod
    def from_zip(cls, archive: str | Path | BinaryIO, into: str | Path) -> "Gallery":
        """`collect` of one zip or tar. Raises GalleryError for what is none, over a limit, or without an image."""
        try:
            with Path(archive).open("rb") if isinstance(archive, (str, Path)) else nullcontext(archive) as file:
                head = file.read(HEAD_BYTES)
                file.seek(0)
                if format_of(head) is not None:
                    raise GalleryError(f"{archive} is a picture, no gallery: name a folder, zip or tar of pictures")
                return cls.collect([file], into)
        except OSError as error:
            raise GalleryError(f"zip {str(archive)!r} cannot be read ({error.strerror}): check its path") from error

    @classmethod
    def read(cls, given: str | Path, into: str | Path) -> "Gallery":
        """A folder where it stands; an archive, or a folder that holds archives, imported into `into`."""
        given = Path(given)
        if given.is_file():
            return cls.from_zip(given, into)
        if given.is_dir() and any(is_archive(path.name) for _, path in files_below(given)[0]):
            return cls.collect([given], into)
        return cls.from_folder(given)

    @classmethod
    def collect(
        cls,
        sources: Iterable[str | Path | BinaryIO],
        into: str | Path,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        max_pictures: int = sys.maxsize,
    ) -> "Gallery":
        """The images of files, metadata files, folders and archives in any mix, imported into the new folder `into`.

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
                importer = Importer(given.skipped, given.notes)
                taken = set(METADATA_NAMES)
                written: set[bytes] = set()
                for path, picture in importer.pictures(given.files, Imported.made, on_progress):
                    name = unique(import_name(path), taken)
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

    def with_albums(self, albums: list[str]) -> None:
        """Puts all images into albums anew, "" for none, here and in `metadata.jsonl`.

        Raises GalleryError, and changes nothing, for names that metadata could not hold.
        """
        if len(albums) != len(self):
            raise GalleryError(f"{len(albums):,} albums for {len(self):,} images: name one for each, '' for none")
        try:
            self.albums = [checked_album(album) for album in albums]
        except ValueError as error:
            raise GalleryError(f"an image {error}") from error
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
        columns = (self.also, pseudo_queries, self.albums, self.notes)
        gallery = Gallery(self.root, self.file_names, captions, self.skipped, *columns)
        gallery.unsaved, gallery.originals = self.unsaved, self.originals
        return gallery

    def with_pictures(
        self, pictures: list[tuple[str, Image.Image]], captions: list[list[str]], longest: int = IMPORT_SIDE
    ) -> "Gallery":
        """These images and, behind them, new ones under their names made safe and unique; not written before `save`.

        They are kept at most `longest` pixels long. Raises GalleryError for captions that metadata could not hold.
        """
        taken = {name.casefold() for name in (*self._index, *METADATA_NAMES)}
        names = [unique(import_name(name), taken) for name, _ in pictures]
        gallery = Gallery(
            self.root,
            self.file_names + names,
            self.captions + [_checked(name, texts) for name, texts in zip(names, captions, strict=True)],
            also=self.also + [[] for _ in names],
            pseudo_queries=self.pseudo_queries + [[] for _ in names],
            albums=self.albums + ["" for _ in names],
        )
        files = [Files.of(picture, name, longest) for name, (_, picture) in zip(names, pictures, strict=True)]
        gallery.unsaved, gallery.originals = self.unsaved | dict(zip(names, files, strict=True)), self.originals
        return gallery

    def without(self, images: Iterable[int]) -> "Gallery":
        """The other images, in their order; no file is touched before `save`."""
        left = set(images)
        return self.joined([image for image in range(len(self)) if image not in left])

    def joined(self, images: list[int], more: "Gallery | None" = None) -> "Gallery":
        """Some images in this order, counted from 0 through these and those of `more`, whose files are its `unsaved`.

        Raises GalleryError where two have one name.
        """
        parts = [self] if more is None else [self, more]

        def column(name: str) -> list[Any]:
            values = [value for part in parts for value in getattr(part, name)]
            return [values[image] for image in images]

        gallery = Gallery(
            self.root,
            column("file_names"),
            column("captions"),
            also=column("also"),
            pseudo_queries=column("pseudo_queries"),
            albums=column("albums"),
        )
        unsaved = {name: files for part in parts for name, files in part.unsaved.items()}
        gallery.unsaved = {name: files for name, files in unsaved.items() if name in gallery._index}
        gallery.originals = self.originals
        return gallery

    def bytes_kept(self, longest: int) -> int:
        """About how many bytes the pictures of an imported gallery take in a memory that keeps them so long."""
        share = min(1.0, (longest / IMPORT_SIDE) ** 2) if longest > THUMBNAIL_SIDE else 0.0
        size = 0.0
        for image in range(len(self)):
            small, large = self.thumbnail(image), self.path(image)
            size += small.stat().st_size + (0 if small == large else share * large.stat().st_size)
        return round(size)

    def files(self, index: int, longest: int) -> Files:
        """The files that `save` writes of an image whose picture is here."""
        name = self.file_names[index]
        if name in self.unsaved:
            return self.unsaved[name]
        if self.originals is None:
            return Files.made(self.path(index), self.thumbnail(index), longest)
        large = self.original(index)
        return Files(self.path(index), large if large != self.path(index) else None)

    def save(self, folder: str | Path, originals: Path | None = None, longest: int = IMPORT_SIDE) -> None:
        """Writes thumbnails, at most THUMBNAIL_SIDE pixels long, and `metadata.jsonl` into `folder`, and into
        `originals` the pictures that are larger, at most `longest` long; those that a memory keeps stay as they are."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for image in filter(self.has_picture, range(len(self))):
            name, files = self.file_names[image], self.files(image, longest)
            put(files.small, folder / name)
            if files.large is not None and originals is not None:
                put(files.large, originals / name, link=files.large != self.path(image))
        self._write_metadata(folder)

    @classmethod
    def load(cls, folder: str | Path, originals: Path | None = None) -> "Gallery":
        """What `collect` or `save` wrote, in its order, without opening an image. Raises GalleryError."""
        path = Path(folder) / "metadata.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            rows = [checked_row(json.loads(line)) for line in lines if line]
        except (OSError, ValueError, RecursionError) as error:
            raise GalleryError(f"{path} is no saved gallery ({error!r}): save it anew") from error
        names, captions, also, pseudo_queries, given = map(list, zip(*rows, strict=True)) if rows else ([],) * 5
        texts, albums = [some or [] for some in captions], [album or "" for album in given]
        gallery = cls(Path(folder), names, texts, also=also, pseudo_queries=pseudo_queries, albums=albums)
        gallery.originals = originals
        return gallery

    @classmethod
    def _of(cls, importer: Importer, root: Path) -> "Gallery":
        names, captions, also, pseudo_queries, albums = importer.images()
        return cls(root, names, captions, importer.skipped, also, pseudo_queries, albums, importer.notes)

    def _write_metadata(self, folder: Path) -> None:
        columns = zip(self.file_names, self.captions, self.also, self.pseudo_queries, self.albums, strict=True)
        rows = (
            {"file_name": name, "text": captions}
            | ({"also": also} if also else {})
            | ({"pseudo_queries": written} if written else {})
            | ({"album": album} if album else {})
            for name, captions, also, written, album in columns
        )
        write_text(folder / "metadata.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _checked(name: str, captions: list[str]) -> list[str]:
    try:
        return checked_captions(captions)
    except ValueError as error:
        raise GalleryError(f"{name} {error}") from error
