"""What systems leave beside a person's files, and what a file may be called here."""

import unicodedata

import pytest

from gcr_core.files.names import is_hidden, safe_name


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "photos/@eaDir/a.jpg",
        ".thumbnails/a.png",
        ".@__thumb/a.jpg",
        "Thumbs.db",
        "photos/THUMBS.DB",
        "photos\\Thumbs.db",
        "desktop.ini",
        "__MACOSX/photos/._a.jpg",
        "photos/._a.jpg",
        ".DS_Store",
        ".picasaoriginals/a.jpg",
        "Picasa.ini",
        ".dtrash/files/a.jpg",
        "#recycle/a.jpg",
        "$RECYCLE.BIN/S-1/a.jpg",
        "System Volume Information/a",
        "photos/Icon\r",
    ],
)
def test_what_systems_keep_for_themselves_is_passed_over(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "./a.jpg", "../a.jpg", "thumbs/a.jpg", "my @eaDir.jpg", "recycled art/a.jpg", "#1.jpg", "icon.png"],
)
def test_what_a_person_named_is_not(name: str) -> None:
    assert not is_hidden(name)


def test_a_name_is_composed_here() -> None:
    assert safe_name(unicodedata.normalize("NFD", "for\u00eat.jpg")) == "for\u00eat.jpg"
