"""Names that an archive holds as bytes: read where there is one reading, else left in doubt."""

import zipfile
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.files.code_pages import readings, spelled_out
from gcr_core.files.zips import FAT, Zip
from tests.uploads import picture


def zip_of(path: Path, members: dict[bytes, bytes], system: int = FAT) -> Path:
    """A zip whose names are these bytes, without a word on their coding."""
    placeholders = {chr(0x61 + number) * len(name): name for number, name in enumerate(members)}
    with zipfile.ZipFile(path, "w") as archive:
        for placeholder, name in placeholders.items():
            info = zipfile.ZipInfo(placeholder)
            info.create_system = system
            archive.writestr(info, members[name])
    data = path.read_bytes()
    for placeholder, name in placeholders.items():
        data = data.replace(placeholder.encode(), name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("Äpfel und Öl", "cp437"),
        ("été", "cp850"),
        ("España", "cp850"),
        ("São João", "cp850"),
        ("Smørrebrød", "cp850"),
        ("łódź czerwona", "cp852"),
        ("Žluťoučký kůň", "cp852"),
        ("красная лодка", "cp866"),
        ("красная лодка", "cp1251"),
        ("café à Paris", "cp1252"),
        ("赤い船", "shift_jis"),
        ("写真", "shift_jis"),
        ("紅色的船", "big5"),
    ],
)
def test_a_name_with_one_plausible_reading_is_read(name: str, page: str) -> None:
    assert list(readings([name.encode(page)]).values()) == [[name]]


@pytest.mark.parametrize(("name", "page"), [("红色的船", "gb2312"), ("빨간 배", "euc_kr"), ("Bär", "cp1252")])
def test_a_name_with_several_has_all(name: str, page: str) -> None:
    found = readings([name.encode(page)])
    assert len(found) > 1
    assert found[page] == [name]


def test_all_names_of_an_archive_are_of_one_code_page() -> None:
    names = ["Bär", "Straße nach Köln"]
    assert readings([name.encode("cp1252") for name in names]) == {"cp1252": names}


def test_of_a_name_that_stays_in_doubt_no_word_comes() -> None:
    assert spelled_out("Bär 1.jpg".encode("cp1252")) == "B_228_r 1.jpg"


@pytest.mark.parametrize(("page", "system"), [("utf-8", 3), ("cp850", FAT), ("cp437", FAT), ("cp1251", FAT)])
def test_a_zip_that_says_not_how_its_names_are_coded_is_read(page: str, system: int, tmp_path: Path) -> None:
    name = "красная лодка.png" if page == "cp1251" else "für Zoë.png"
    rows = f'{{"file_name": "photos/{name}", "text": "a red boat"}}\n'
    members = {f"photos/{name}".encode(page): picture(), b"metadata.jsonl": rows.encode()}
    gallery = Gallery.from_zip(zip_of(tmp_path / "photos.zip", members, system), tmp_path / "into")
    assert (gallery.file_names, gallery.captions, gallery.skipped) == ([name], [["a red boat"]], [])


def test_captions_in_the_zip_say_which_of_several_readings_is_meant(tmp_path: Path) -> None:
    members = {"红色的船.png".encode("gb2312"): picture(), b"captions.csv": "file,text\n红色的船.png,a boat\n".encode()}
    gallery = Gallery.from_zip(zip_of(tmp_path / "photos.zip", members), tmp_path / "into")
    assert (gallery.file_names, gallery.captions, gallery.skipped) == (["红色的船.png"], [["a boat"]], [])
    assert ("photos.zip", "says not how its file names are coded: they are read as gb2312") in gallery.notes


def test_a_zip_whose_names_stay_in_doubt_gives_its_pictures_and_says_so(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "photos.zip", {"Bär.png".encode("cp1252"): picture(), b"a-dog.png": picture(seed=1)})
    gallery = Gallery.from_zip(archive, tmp_path / "into")
    assert gallery.captions == [[], ["a dog"]]
    ((name, reason),) = gallery.notes
    assert (name, gallery.skipped) == ("photos.zip", [])
    assert "says not how its file names are coded (cp850, cp852, cp1252?)" in reason


def test_a_path_with_backslashes_is_one_of_folders(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "photos.zip", {b"lake\\a.png": picture(), b"sea\\b.png": picture(seed=1)})
    assert Gallery.from_zip(archive, tmp_path / "into").albums == ["lake", "sea"]
    with Zip(zip_of(tmp_path / "up.zip", {b"..\\a.png": picture()})) as zipped:
        assert [member.filename for member in zipped.members] == ["../a.png"]
