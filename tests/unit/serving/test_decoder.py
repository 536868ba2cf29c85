"""Pictures of strangers are opened in processes of their own: what a bad one does, it does there."""

import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.errors import GalleryError, GcrError, InputError
from gcr_core.serving import decoder as decoder_module
from gcr_core.serving.decoder import Decoder, ImportHost, PictureHost, collect
from gcr_core.serving.model_process import ModelProcess
from gcr_core.settings import Settings
from tests.uploads import picture


class SlowHost(PictureHost):
    """Opens some pictures slowly, or with much memory."""

    def open(self, picture: Path, longest: int, room: int) -> Image.Image:
        if picture.name == "slow.png":
            time.sleep(600)
        if picture.name == "deadly.png":
            os.kill(os.getpid(), signal.SIGKILL)
        if picture.name == "large.png":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(decoder_module, "open_image", lambda *_: bytearray(3 * 2**30))
                return super().open(picture, longest, room)
        return super().open(picture, longest, room)


class SlowImport(ImportHost):
    def collect(self, sources: list[Path], into: Path, max_pictures: int) -> tuple[object, object]:
        (into.parent / f".{into.name}.0123abcd").mkdir(parents=True)
        time.sleep(600)
        return [], []


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_module, "PictureHost", SlowHost)
        patch.setattr(decoder_module, "SECONDS", 2.0)
        decoder = Decoder(Settings(home=tmp_path_factory.mktemp("home")))
        for name in ("first.png", "second.png"):
            with pytest.raises(InputError, match=f"{name}.*cannot be read"):
                decoder.open(name, 100)
        yield decoder
        while not decoder._free.empty():
            decoder._free.get().end()


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def put(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(picture((300, 200)))
    return folder / name


def test_a_picture_is_as_opened_here(decoder: Decoder, tmp_path: Path) -> None:
    path = put(tmp_path, "picture.png")
    there, here = decoder.open(path, 128), open_image(path, 128)
    assert (there.mode, there.size, there.tobytes()) == (here.mode, here.size, here.tobytes())


def test_mistakes_are_said_in_the_same_words(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as here:
        open_image(tmp_path / "no.png")
    with pytest.raises(InputError) as there:
        decoder.open(tmp_path / "no.png", 100)
    assert str(there.value) == str(here.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slow.png", "deadly.png"])
def test_a_picture_that_takes_too_much_is_refused_and_the_next_one_opened(
    decoder: Decoder, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match=rf"{name} takes more than 2 s or 352 MiB to open: save it anew, smaller"):
        decoder.open(put(tmp_path, name), 100)
    for _ in range(2):
        assert decoder.open(put(tmp_path, "fine.png"), 100).size == (100, 67)


def test_memory_without_bound_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"large\.png takes more than"):
        decoder.open(put(tmp_path, "large.png"), 100)
    assert decoder.open(put(tmp_path, "fine.png"), 100)


@pytest.mark.slow
def test_a_large_picture_has_more_room_than_others_and_may_have_to_wait(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((5500, 5000)).save(
        buffer, "WEBP", method=0
    )  # more than half of what one may have
    (tmp_path / "large.webp").write_bytes(buffer.getvalue())
    assert decoder.open(tmp_path / "large.webp", 100).size == (100, 91)
    monkeypatch.setattr(decoder_module, "LARGE", 1.0)
    with pytest.raises(InputError, match=r"large\.webp"):
        decoder.open(tmp_path / "large.webp", 100)


@pytest.mark.slow
def test_a_slow_picture_keeps_nobody_waiting(decoder: Decoder, tmp_path: Path) -> None:
    refused: list[Exception] = []

    def ask() -> None:
        try:
            decoder.open(slow, 100)
        except InputError as error:
            refused.append(error)

    slow, fine = put(tmp_path, "slow.png"), put(tmp_path, "fine.png")
    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(3):
        decoder.open(fine, 100)
    assert not refused
    asking.join()
    assert len(refused) == 1


def test_one_picture_more_than_may_wait_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decoder_module, "MAX_UNDER_WAY", 0)
    with pytest.raises(InputError, match="0 pictures are being opened at this moment, the limit is 0: ask again"):
        Decoder(Settings(home=tmp_path)).open("x.png", 100)


def test_a_gallery_is_imported_as_here(tmp_path: Path, home: Path, tiny_gallery: Gallery) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    sources, progress = [tiny_gallery.root, tmp_path / "no.png"], []
    settings = Settings(home=home)
    there = collect(sources, tmp_path / "there", lambda done, total: progress.append((done, total)), 100, settings)
    here = Gallery.collect(sources, tmp_path / "here")
    assert (there.file_names, there.captions, there.skipped) == (here.file_names, here.captions, here.skipped)
    assert progress[-1][0] == progress[-1][1]
    with pytest.raises(GalleryError, match="the limit is 3: choose fewer"):
        collect(sources, tmp_path / "few", lambda done, total: None, 3, settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "no.png", "there"]


@pytest.mark.slow
def test_an_import_that_hangs_is_ended_and_leaves_nothing(
    tmp_path: Path, home: Path, tiny_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "ImportHost", SlowImport)
    monkeypatch.setattr(decoder_module, "IMPORT_SECONDS", 2.0)
    monkeypatch.setattr(decoder_module, "START_SECONDS", 3.0)
    with pytest.raises(GcrError, match="the import was ended: a picture took more than 2 s"):
        collect([tiny_gallery.root], tmp_path / "into", lambda done, total: None, 100, Settings(home=home))
    assert not any(tmp_path.iterdir())


def test_an_import_that_is_stopped_ends_its_process(tmp_path: Path, home: Path, tiny_gallery: Gallery) -> None:
    ended: list[ModelProcess] = []

    def stop(done: int, total: int) -> None:
        raise GcrError("the disk is full: make room")

    with pytest.MonkeyPatch.context() as patch:
        end = ModelProcess.end
        patch.setattr(ModelProcess, "end", lambda process: ended.append(process) or end(process))
        with pytest.raises(GcrError, match="the disk is full"):
            collect([tiny_gallery.root], tmp_path / "into", stop, 100, Settings(home=home))
    assert [process.pid for process in ended] == [None]
    assert not any(tmp_path.iterdir())
