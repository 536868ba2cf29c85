"""Shelves: what one owner keeps, out of sight of the others."""

import io
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import zipfile
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, PIPE, CompletedProcess, Popen

import pytest

from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.errors import GalleryError, GcrError, InputError, MemoryFormatError, NotFoundError
from gcr_core.files import atomic
from gcr_core.memory import archive as archives
from gcr_core.memory import scrutiny
from gcr_core.memory.manifest import read_manifest
from gcr_core.memory.memory import Memory
from gcr_core.serving.workspace import MAX_NAME_CHARACTERS, Workspace, new_id
from gcr_core.settings import Settings
from tests.patience import until
from tests.uploads import picture

ROOT = Path(__file__).parents[3]


@pytest.fixture
def shelf(tmp_path: Path) -> Workspace:
    return Workspace.of(tmp_path / "home", None)


def put(shelf: Workspace, memory: Path, name: str = "shapes") -> str:
    """Stands a copy of a memory on the shelf, as a job does; returns its id."""
    id = new_id()
    shutil.copytree(memory, shelf.root / "made")
    shelf.keep(shelf.root / "made", id, name)
    return id


def repack(archive: Path, into: Path, change: dict[str, bytes | None], top: str = "") -> Path:
    """A copy of a zip with some members replaced, added or (None) left out, perhaps in a top folder."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(into, "w") as new:
        members = {name: old.read(name) for name in old.namelist()} | change
        for name, data in members.items():
            if data is not None:
                new.writestr(top + name, data)
    return into


@pytest.fixture
def opened_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in a zip is opened in this process, not in one of its own, which would import torch for seconds."""

    def run(command: list[str], **options: object) -> CompletedProcess[str]:
        said = io.StringIO()
        with redirect_stderr(said):
            status = archives._open(Path(command[-1]))
        return CompletedProcess(command, status, "", said.getvalue())

    monkeypatch.setattr(archives, "step_back", lambda: None)
    monkeypatch.setattr(archives, "_confine", lambda folder: None)
    monkeypatch.setattr(archives.subprocess, "run", run)


def refused(tmp_path: Path, hostile: Path, complaint: str) -> None:
    """Nobody can open the zip, and it leaves nothing."""
    other = Workspace.of(tmp_path, "other")
    with pytest.raises(MemoryFormatError, match=complaint):
        other.open_memory(hostile)
    assert other.memories() == []
    assert [path for path in other.root.rglob("*") if path.is_file()] == []


def test_a_kept_memory_is_listed_renamed_and_deleted(shelf: Workspace, tiny_memory_dir: Path) -> None:
    assert shelf.memories() == []
    id = put(shelf, tiny_memory_dir)
    (row,) = shelf.memories()
    assert list(row) == ["id", "name", "images", "captions", "created", "repository"]
    assert (row["id"], row["name"], row["images"], row["captions"]) == (id, "shapes", 12, 24)
    shelf.rename(id, "  my\n shapes ")
    assert [memory["name"] for memory in shelf.memories()] == ["my shapes"]
    assert shelf.memories()[0]["created"] == row["created"]
    shelf.delete(id)
    assert shelf.memories() == []
    assert list((shelf.root / "memories").iterdir()) == []


def test_memories_are_listed_the_newest_first(shelf: Workspace, tiny_memory_dir: Path) -> None:
    for name in ("first", "second", "third"):
        put(shelf, tiny_memory_dir, name)
        time.sleep(0.01)
    assert [memory["name"] for memory in shelf.memories()] == ["third", "second", "first"]


def test_the_name_outlives_saving_the_memory_anew(shelf: Workspace, tiny_memory_dir: Path) -> None:
    folder = shelf.memory(put(shelf, tiny_memory_dir))
    Memory.from_pretrained(folder, device="cpu").save(folder)
    assert [memory["name"] for memory in shelf.memories()] == ["shapes"]


@pytest.mark.parametrize("name", ["", " \n", "\u202e", "x" * (MAX_NAME_CHARACTERS + 1)])
def test_a_blank_or_long_name_is_refused(shelf: Workspace, tiny_memory_dir: Path, name: str) -> None:
    id = put(shelf, tiny_memory_dir)
    with pytest.raises(InputError, match=f"the limits are 1 and {MAX_NAME_CHARACTERS}"):
        shelf.rename(id, name)


def test_another_owners_id_is_refused_in_the_words_of_one_that_never_was(
    tmp_path: Path, tiny_memory_dir: Path, tiny_gallery: Gallery
) -> None:
    ours, theirs = (Workspace.of(tmp_path, secret) for secret in ("our secret", "their secret"))
    memory = put(theirs, tiny_memory_dir)
    gallery, folder = theirs.new_gallery()
    tiny_gallery.save(folder)
    calls = (ours.memory, lambda id: ours.rename(id, "mine"), ours.delete, ours.export, ours.gallery)
    for call in calls:
        complaints = []
        for id in (memory, gallery, new_id()):
            with pytest.raises(NotFoundError) as refused:
                call(id)
            complaints.append(str(refused.value))
        assert len(set(complaints)) == 1
    assert ours.memories() == ours.galleries() == []
    assert theirs.memory(memory).is_dir()
    assert theirs.gallery(gallery).is_dir()


@pytest.mark.parametrize(
    "id", ["", ".", "..", "../../../etc", "/etc/passwd00", "a/b/c/d/e/f/g", "x" * 13, "AAAAAAAAAAA\0", 7, None]
)
def test_what_is_no_id_never_becomes_a_path(shelf: Workspace, id: object) -> None:
    for call in (shelf.memory, shelf.gallery, shelf.delete, shelf.export):
        with pytest.raises(NotFoundError):
            call(id)


def test_the_owners_secret_is_not_written_anywhere(tmp_path: Path, tiny_memory_dir: Path) -> None:
    put(Workspace.of(tmp_path, "our-secret"), tiny_memory_dir)
    assert not [path for path in tmp_path.rglob("*") if "our-secret" in path.name]


def test_an_owner_without_a_secret_has_no_shelf(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="secret is empty"):
        Workspace.of(tmp_path, "")


def test_galleries_are_listed_with_their_images_and_deleted(shelf: Workspace, tiny_gallery: Gallery) -> None:
    id, folder = shelf.new_gallery()
    assert shelf.galleries() == []
    tiny_gallery.save(folder)
    (row,) = shelf.galleries()
    assert (row["id"], row["images"]) == (id, 12)
    assert len(Gallery.load(shelf.gallery(id))) == 12
    shelf.delete(id)
    assert shelf.galleries() == []


@pytest.mark.slow
def test_an_exported_memory_opens_unpacked_and_on_another_shelf(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path
) -> None:
    id = put(shelf, tiny_memory_dir, "Ferien: ../Füße/1.5")
    archive = shelf.export(id)
    assert archive.name == "Ferien: .._Füße_1.5.zip"
    with zipfile.ZipFile(archive) as members:
        assert {member.compress_type for member in members.infolist()} == {zipfile.ZIP_STORED}
        members.extractall(tmp_path / "unpacked")
    assert len(Memory.from_pretrained(tmp_path / "unpacked", device="cpu").gallery) == 12
    other = Workspace.of(tmp_path, "other")
    opened = other.open_memory(archive)
    (row,) = other.memories()
    assert (row["id"], row["name"], row["images"]) == (opened, "Ferien: ../Füße/1.5", 12)


@pytest.mark.slow
@pytest.mark.usefixtures("opened_here")
def test_a_zip_with_one_top_folder_opens(tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path) -> None:
    archive = repack(shelf.export(put(shelf, tiny_memory_dir)), tmp_path / "m.zip", {}, top="memory/")
    id = shelf.open_memory(archive)
    assert Memory.from_pretrained(shelf.memory(id), device="cpu").facts["name"] == "shapes (2)", "told apart"
    assert Memory.from_pretrained(shelf.memory(shelf.open_memory(archive)), device="cpu").facts["name"] == "shapes (3)"


@pytest.mark.slow
@pytest.mark.usefixtures("opened_here")
def test_pictures_in_large_come_along_in_a_zip_and_are_looked_at(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path
) -> None:
    id = put(shelf, tiny_memory_dir)
    large = shelf.memory(id) / "originals" / "red-bar.png"
    large.parent.mkdir()
    large.write_bytes(picture((300, 200)))
    archive = shelf.export(id)
    friend = Workspace.of(tmp_path, "friend")
    opened = friend.memory(friend.open_memory(archive))
    assert (opened / "originals" / "red-bar.png").read_bytes() == large.read_bytes()
    hostile = repack(archive, tmp_path / "hostile.zip", {"originals/red-bar.png": b"no picture"})
    refused(tmp_path, hostile, "no JPEG, PNG, WebP, GIF")


def test_deleting_a_memory_deletes_its_export(shelf: Workspace, tiny_memory_dir: Path) -> None:
    id = put(shelf, tiny_memory_dir)
    archive = shelf.export(id)
    shelf.delete(id)
    assert not archive.exists()


@pytest.mark.slow
def test_a_zip_that_its_own_process_cannot_open_is_refused_and_leaves_nothing(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path
) -> None:
    whole = shelf.export(put(shelf, tiny_memory_dir))
    hostile = repack(whole, tmp_path / "hostile.zip", {"model/model.safetensors": b"short"})
    refused(tmp_path, hostile, "cannot be opened")


@pytest.mark.usefixtures("opened_here")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"memory.json": None}, "holds no memories: choose a zip"),
        ({"other/memory.json": b"{}"}, "holds 2 memories: choose a zip"),
        ({"model/pytorch_model.bin": b"\x80\x04."}, "pytorch_model.bin': is of a kind that no memory holds"),
        ({"gallery/x.svg": b"<svg/>"}, "x.svg': is of a kind that no memory holds"),
        ({"../../outside.json": b"{}"}, "outside.json': its name leaves the folder"),
        ({"/etc/x.json": b"{}"}, "x.json': its name leaves the folder"),
        ({"model": b""}, "no memory holds"),
        ({"model/config.json/x.json": b"{}"}, "stands twice"),
        ({"gallery/x.png": b"PK\x03\x04"}, "an archive inside the archive"),
        ({"gallery/x.txt": bytes(2**22)}, "times its packed size"),
        ({"memory.json": b'{"format_version": 99}'}, "memory format 99"),
        ({"memory.json": b"{}" * 9}, "cannot be read"),
        ({"model/model.safetensors": b"short"}, "cannot be opened"),
        ({"model/model.safetensors": None}, "cannot be opened"),
        ({"gallery/red-bar.png": b"GIF89a<script>"}, "red-bar.png"),
        ({"dense/index.faiss": None}, "holds no dense index"),
        ({"dense/index.faiss": b"IxFI"}, "holds no dense index"),
        ({"dense/index.faiss": b"ilod" + bytes(999)}, "no plain list of vectors"),
    ],
)
def test_a_zip_that_is_no_memory_is_refused_and_leaves_nothing(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path, change: dict[str, bytes | None], complaint: str
) -> None:
    whole = shelf.export(put(shelf, tiny_memory_dir))
    with zipfile.ZipFile(whole) as members:
        text = members.read("README.md")
    hostile = tmp_path / "hostile.zip"
    repack(whole, hostile, change)
    if "gallery/x.txt" in change:
        with zipfile.ZipFile(hostile, "w", zipfile.ZIP_DEFLATED) as members:
            members.writestr("memory.json", text)
            members.writestr("gallery/x.txt", bytes(2**22))
    refused(tmp_path, hostile, complaint)


def test_strangers_open_adapters_of_the_pages_own_backbone_only(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path
) -> None:
    facts = json.loads((tiny_memory_dir / "memory.json").read_text()) | {"backbone": {"name": "/srv/models/large"}}
    adapter = {"model/adapter_config.json": b"{}", "memory.json": json.dumps(facts).encode()}
    hostile = repack(shelf.export(put(shelf, tiny_memory_dir)), tmp_path / "adapter.zip", dict(adapter))
    strangers = Workspace(tmp_path / "strangers", replace(Settings(), visitors=True))
    with pytest.raises(MemoryFormatError, match=r"of the backbone '/srv/models/large' at revision None, the backbone"):
        strangers.open_memory(hostile)
    assert strangers.memories() == []


def test_strangers_open_memories_of_the_pages_own_clip_only(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path
) -> None:
    strangers = Workspace(tmp_path / "strangers", replace(Settings(), visitors=True))
    for name in ("/srv/models/clip", "stranger/clip"):
        named = {"dense/clip.json": json.dumps({"name": name, "revision": "0" * 40}).encode()}
        hostile = repack(shelf.export(put(shelf, tiny_memory_dir)), tmp_path / "clip.zip", dict(named))
        with pytest.raises(MemoryFormatError, match=f"of the CLIP '{name}' at revision 0+, the CLIP here is"):
            strangers.open_memory(hostile)
    assert strangers.memories() == []


def test_what_is_no_zip_is_refused(tmp_path: Path, shelf: Workspace) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(MemoryFormatError, match=r"x\.zip cannot be read as a zip"):
        shelf.open_memory(tmp_path / "x.zip")
    with pytest.raises(MemoryFormatError, match=r"gone\.zip cannot be read"):
        shelf.open_memory(tmp_path / "gone.zip")


def test_an_upload_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(bytes(3 * 2**20))
    small = Workspace(tmp_path / "small", replace(Settings(), max_upload_bytes=2**20))
    full = Workspace(tmp_path, replace(Settings(), max_kept_bytes=4 * 2**20))
    for refuse in (small.open_memory, lambda archive: small.collect([archive])):
        with pytest.raises(GcrError, match=r"the limit is 0\.00: choose fewer files"):
            refuse(tmp_path / "x.zip")
    with pytest.raises(GcrError, match=r"you would keep 0\.01 GiB, the limit is 0\.00: delete"):
        full.open_memory(tmp_path / "x.zip")


def test_an_upload_of_more_pictures_than_the_limit_leaves_nothing(tmp_path: Path, tiny_gallery: Gallery) -> None:
    shelf = Workspace(tmp_path / "few", replace(Settings(), max_pictures=11))
    with pytest.raises(GalleryError, match="12 pictures were given, the limit is 11: choose fewer"):
        shelf.collect([tiny_gallery.root])
    assert shelf.galleries() == []
    assert [path for path in shelf.root.rglob("*") if path.is_file()] == []


def test_what_killed_processes_left_is_swept(shelf: Workspace, tiny_memory_dir: Path) -> None:
    id = put(shelf, tiny_memory_dir)
    for kind in ("galleries", "memories", "jobs"):
        half = shelf.root / kind / f".{new_id()}.0123abcd"
        half.mkdir(parents=True)
        os.utime(half, (0, 0))
    gallery = shelf.new_gallery()[1]
    gallery.mkdir()
    for folder in (shelf.memory(id), gallery):
        (folder / ".README.md.0123abcd").touch()
        os.utime(folder / ".README.md.0123abcd", (0, 0))
    shelf.sweep()
    assert [path.name for path in (shelf.root / "memories").iterdir()] == [id]
    assert not any((shelf.root / "jobs").iterdir())
    assert not list(shelf.root.rglob(".README*"))


def test_a_batch_whose_import_was_killed_is_swept_and_one_that_is_imported_is_not(
    shelf: Workspace, tiny_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, gallery = shelf.collect([tiny_gallery.root])
    monkeypatch.setattr(atomic, "JUST_BEGUN_SECONDS", 0)

    def hidden() -> list[str]:
        return [path.name for path in gallery.root.iterdir() if path.name.startswith(".batch")]

    with shelf.batch(id, [tiny_gallery.root]) as batch:
        (name,) = hidden()
        shelf.sweep()
        assert len(batch) == len(gallery) and hidden() == [name]
    assert hidden() == []
    (gallery.root / name / "imported").mkdir(parents=True)
    (gallery.root / "moved.png").touch()
    shelf.sweep()
    assert hidden() == [] and not (gallery.root / "moved.png").exists()


WRITERS = """
import itertools, os, sys, threading
from pathlib import Path
from gcr_core.memory.memory import Memory
import torch, tqdm
tqdm.tqdm.set_lock(threading.RLock())  # its own lock is one for all forks: who is killed with it stops the next
torch.set_num_threads(1)
shelf, memory = Path(sys.argv[1]), Memory.from_pretrained(sys.argv[2], device="cpu")
for number, _ in enumerate(sys.stdin):
    if pid := os.fork():
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("gone", flush=True)
        continue
    for round in itertools.count():
        memory.facts["round"] = [number, round]
        memory.save(shelf / "memories" / ("rewritten---" if round % 2 else f"{number:012}"))
"""


@pytest.mark.slow
def test_whenever_the_writer_is_killed_every_memory_on_disk_loads(shelf: Workspace, tiny_memory_dir: Path) -> None:
    """25 times; the writers are forked from one process, so that each begins at once."""
    draws, longest = random.Random(0), 0.0
    checked: set[tuple[str, tuple[int, int]]] = set()
    command = [sys.executable, "-c", WRITERS, str(shelf.root), str(tiny_memory_dir)]
    with Popen(
        command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True, start_new_session=True
    ) as writers:
        assert writers.stdin and writers.stdout
        try:
            for kill in range(26):
                writers.stdin.write("\n")
                writers.stdin.flush()
                pid = int(writers.stdout.readline())
                if kill % 2 == 0:  # every second has written, however slow the machine has become
                    started, own = time.monotonic(), f"{kill:012}"
                    until(lambda own=own: own in shelf.ids("memories"))  # type: ignore[misc]
                    longest = longest or min(0.3, time.monotonic() - started)
                time.sleep(draws.uniform(0, 2 * longest))
                os.kill(pid, signal.SIGKILL)
                assert writers.stdout.readline() == "gone\n"
                for id in shelf.ids("memories"):
                    state = (id, tuple(read_manifest(shelf.memory(id))["round"]))
                    if state not in checked:
                        assert len(Memory.from_pretrained(shelf.memory(id), device="cpu").gallery) == 12
                        checked.add(state)
        finally:
            os.killpg(writers.pid, signal.SIGKILL)
    leftovers = [path for path in (shelf.root / "memories").iterdir() if path.name.startswith(".")]
    assert len(checked) > 10
    assert len(leftovers) > 5
    for path in leftovers:
        os.utime(path, (0, 0))
    shelf.sweep()
    assert len(list((shelf.root / "memories").iterdir())) == len(shelf.ids("memories")) == len(shelf.memories())


@pytest.mark.usefixtures("opened_here")
def test_a_memory_of_a_kind_that_is_not_known_is_refused_in_a_zip_and_opens_as_the_folder_that_the_line_names(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrutiny, "MODELS", frozenset(["gcr_mini"]))
    archive = shelf.export(put(shelf, tiny_memory_dir))
    with pytest.raises(MemoryFormatError) as told:
        shelf.open_memory(archive)
    assert re.fullmatch(
        r"the memory in the zip cannot be opened: model/config\.json is of the kind 'llava', known are gcr_mini: .*"
        r" unpack the zip on your own machine and open its folder with --memory",
        str(told.value),
    )
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    assert main(["recall", "a red circle", "--memory", str(tmp_path / "unpacked")]) == 0


HOSTILE: dict[str, tuple[str, str | dict[str, object], str]] = {
    "a template without end": (
        "model/chat_template.jinja",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "did not open in 10 s|did not load|cannot be opened",
    ),
    "a prompt without end": (
        "model/processor_config.json",
        {"num_additional_image_tokens": 10**9},
        "cannot be opened|did not",
    ),
    "a picture of 8000 x 8000": (
        "model/processor_config.json",
        {"image_processor": {"image_processor_type": "CLIPImageProcessor", "size": {"height": 8000, "width": 8000}}},
        "processor_config.json brings pictures to",
    ),
    "400 layers": (
        "model/config.json",
        {"text_config": {"num_hidden_layers": 400}},
        "num_hidden_layers 400, the limit",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_memory_that_means_harm_is_refused_by_its_own_process(
    tmp_path: Path, shelf: Workspace, tiny_memory_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if "without end" in name:
        monkeypatch.setattr(archives, "TRIAL_SECONDS", 10)
    member, change, complaint = HOSTILE[name]
    whole = shelf.export(put(shelf, tiny_memory_dir))
    if isinstance(change, dict):
        with zipfile.ZipFile(whole) as members:
            change = json.dumps(json.loads(members.read(member)) | change)
    hostile = repack(whole, tmp_path / "hostile.zip", {member: change.encode()})
    refused(tmp_path, hostile, complaint)


def test_a_shelf_that_is_damaged_in_part_shows_the_rest(
    shelf: Workspace, tiny_memory_dir: Path, tiny_gallery: Gallery, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = put(shelf, tiny_memory_dir), put(shelf, tiny_memory_dir)
    (shelf.memory(bad) / "memory.json").write_bytes(b"")
    id, folder = shelf.new_gallery()
    tiny_gallery.save(folder)
    (shelf.new_gallery()[1]).mkdir()
    assert [row["id"] for row in shelf.memories()] == [good]
    assert [row["id"] for row in shelf.galleries()] == [id]
    assert capsys.readouterr().err.count("is left aside") == 2
    shelf.delete(bad)
    assert [row["id"] for row in shelf.memories()] == [good]
