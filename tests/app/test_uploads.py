"""Files that a browser sent: laid out under their names, taken only from where Gradio puts uploads."""

import pytest

from gcr_core.errors import GalleryError, InputError
from gcr_core.ui import uploads


@pytest.fixture
def sent(monkeypatch, tmp_path):
    """Makes an upload as Gradio does: in a folder named after its content."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    def send(name, content=b"x"):
        folder = tmp_path / content.hex()
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        return str(folder / name)

    return send


def test_a_folder_keeps_its_shape_and_metadata_its_place(sent):
    files = [
        {"path": sent("1.jpg", b"a"), "name": "holiday/beach/1.jpg"},
        {"path": sent("1.jpg", b"b"), "name": "holiday/town/1.jpg"},
        {"path": sent("metadata.jsonl", b"c"), "name": "holiday/metadata.jsonl"},
    ]
    with uploads.laid_out(files) as [folder]:
        below = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    assert below == {"beach/1.jpg": b"a", "town/1.jpg": b"b", "metadata.jsonl": b"c"}
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../../outside.jpg", "/etc/outside.jpg", "..", "", "a\0b.jpg", "x" * 300 + ".jpg"])
def test_a_name_never_leads_out_of_the_folder(sent, name):
    with uploads.laid_out([{"path": sent("1.jpg"), "name": name}]) as [path]:
        inside = path if path.is_file() else next(path.rglob("*.jpg"))
        assert inside.read_bytes() == b"x"
        assert inside.resolve().is_relative_to(path.parent.resolve())


def test_files_of_the_same_name_are_all_there(sent):
    files = [{"path": sent("1.jpg", content), "name": "1.jpg"} for content in (b"a", b"b")]
    with uploads.laid_out(files) as paths:
        found = sorted(path.read_bytes() for each in paths for path in (each, *each.rglob("*")) if path.is_file())
    assert found == [b"a", b"b"]


def test_more_pictures_than_the_limit_are_refused_before_they_are_looked_at(sent):
    loose = [{"path": f"/uploads/{i}/{i}.jpg", "name": f"holiday/{i}.jpg"} for i in range(4)]
    with pytest.raises(GalleryError, match="4 pictures were given, the limit is 3"), uploads.laid_out(loose, 3):
        pass
    copies = [{"path": sent("1.jpg", b"a"), "name": f"{i}.jpg"} for i in range(4)]
    with uploads.laid_out(copies, 3) as paths:
        assert len(paths) == 4


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "", None, 7])
def test_nothing_but_an_upload_is_taken(sent, path):
    sent("1.jpg")
    with pytest.raises(InputError, match="upload it again"), uploads.laid_out([{"path": path, "name": "a.jpg"}]):
        pass


def test_a_link_among_the_uploads_leads_nowhere(sent, tmp_path):
    (tmp_path / "link.jpg").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="no upload"), uploads.laid_out([{"path": str(tmp_path / "link.jpg")}]):
        pass
