"""The same files are the same gallery, in whatever way they are handed over."""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcr_core import tables
from gcr_core.data.gallery import Gallery
from gcr_core.data.pictures import import_name
from gcr_core.errors import GalleryError
from gcr_core.files.names import is_hidden, unique
from tests.mixed import as_tar, as_zip, laid, mixed_files
from tests.uploads import picture, zipped

WAYS = ("zip", "zip in a folder", "tar.gz", "tar in a folder", "dropped files", "dropped folder")


def handed_over(way: str, folder: Path, at: Path) -> list[Path]:
    if way.startswith("zip"):
        return [as_zip(at / "photos.zip", folder, "photos/" if "folder" in way else "")]
    if way.startswith("tar"):
        return [as_tar(at / "photos.tar.gz", folder, "photos" if "folder" in way else ".")]
    return sorted(folder.iterdir()) if way == "dropped files" else [folder]


def shown(gallery: Gallery) -> dict[str, Any]:
    """All that a gallery says of its images and of what it left out, by the names that an import gives."""
    taken: set[str] = {"metadata.jsonl", "metadata.csv"}
    names = [unique(import_name(name), taken) for name in gallery.file_names]
    return {
        "captions": list(zip(names, gallery.captions, strict=True)),
        "albums": gallery.albums,
        "doubles": [[import_name(name) for name in also] for also in gallery.also],
        "skipped": gallery.skipped,
        "notes": gallery.notes,
    }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid(tmp_path_factory.mktemp("mixed") / "photos", mixed_files())


@pytest.fixture(scope="module")
def from_folder(mixed: Path) -> Gallery:
    return Gallery.from_folder(mixed)


@pytest.fixture(scope="module")
def imported(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return Gallery.collect([mixed], tmp_path_factory.mktemp("imported") / "into")


def pictures(gallery: Gallery) -> list[bytes]:
    """What an import wrote of each image."""
    return [gallery.path(image).read_bytes() for image in range(len(gallery))]


def test_there_are_sixty_files() -> None:
    assert len(mixed_files()) == 60


@pytest.mark.parametrize("way", WAYS)
def test_sixty_mixed_files_are_the_same_gallery_in_every_way(
    way: str, mixed: Path, from_folder: Gallery, imported: Gallery, tmp_path: Path
) -> None:
    gallery = Gallery.collect(handed_over(way, mixed, tmp_path), tmp_path / "into")
    expected = shown(from_folder)
    found = shown(gallery)
    assert found["captions"] == expected["captions"]
    assert found == expected
    assert pictures(gallery) == pictures(imported)


NAMES = st.text(
    st.one_of(st.characters(exclude_characters="/\0"), st.sampled_from("aA1 ._-'()\u0301é中\\")),
    min_size=1,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_any_file_names_make_a_gallery_whose_rows_find_their_images(names: list[str]) -> None:
    names = [f"{name}.png" for name in names]
    rows = "".join(json.dumps({"file_name": name, "text": f"caption {i}"}) + "\n" for i, name in enumerate(names))
    members = {name: picture(seed=i) for i, name in enumerate(names)} | {"metadata.jsonl": rows.encode()}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive = zipped(Path(folder, "a.zip"), {n.encode(errors="replace").decode(): d for n, d in members.items()})
        try:
            gallery = Gallery.from_zip(archive, Path(folder, "into"))
        except GalleryError as error:
            assert "\n" not in str(error)
            return
    wanted = {f"caption {i}" for i, name in enumerate(names) if not is_hidden(name)}
    captions = {caption for captions in gallery.captions for caption in captions}
    skipped = {place for place, _ in gallery.skipped}
    lost = {name for i, name in enumerate(names) if f"caption {i}" in wanted - captions}
    assert len(lost) <= len(skipped), (lost, gallery.skipped)


def test_the_report_of_a_command_names_what_was_left_out_and_what_was_read_otherwise(from_folder: Gallery) -> None:
    answer = {"memory": "m", "images": 30, "seconds": 1.0, "memorized": 1.0, "retrieved": None}
    lines = tables.memorize(answer, {"pseudo_queries": 0, "remarks": []}, from_folder).split("\n")
    assert "skipped town/VID_0008.mp4: is a film: save what it shows as a picture" in lines
    assert 'note: metadata.csv has no "text": "Caption" is taken for it' in lines
    assert "note: holiday is the caption of 5 pictures by their names alone: caption them apart" in lines
