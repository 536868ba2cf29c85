"""What strangers send is opened in processes that together take no more memory than they may."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.files.claims import Claims
from gcr_core.memory.archive import needed
from gcr_core.retrieval.query import SearchRequest
from gcr_core.serving import decoder as decoder_module
from gcr_core.serving import guests as guests_module
from gcr_core.serving import memory_budget
from gcr_core.serving.guests import Guests, guest_host
from gcr_core.serving.memory_budget import CHANGE_ROOM, GUEST_LIBRARIES, IMPORT, LARGE_PICTURE, MIB, PICTURE, Kind, lend
from gcr_core.serving.model_process import ModelProcess
from gcr_core.settings import ROOT, Settings
from tests.patience import until
from tests.unit.serving.test_guests import HERE, THERE, Process

OTHER_SERVER = """
import sys
from pathlib import Path
from gcr_core.serving.memory_budget import IMPORT, lend
from gcr_core.settings import Settings

lend(Settings(home=Path(sys.argv[1])), "import", IMPORT, 0)
print("imports", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, visitors=True)


def test_beside_an_import_or_a_memory_of_gcr_mini_that_changes_there_is_room_for_a_picture(settings: Settings) -> None:
    memory = GUEST_LIBRARIES + needed(ROOT / "checkpoints" / "emoji")
    for kind, sizes in (("import", [IMPORT]), ("change", [memory, CHANGE_ROOM])):
        held = [lend(settings, kind, size, 0) for size in sizes]
        held.append(lend(settings, "picture", PICTURE, 0))
        for each in held:
            each.give_back()


@pytest.mark.slow
def test_a_memory_of_gcr_mini_is_asked_and_changed_within_what_it_is_lent(settings: Settings, tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "checkpoints" / "emoji", tmp_path / "memory")
    guests = Guests(settings, lambda: ModelProcess(guest_host, "memory"))  # however long that takes
    large = Image.effect_noise((1600, 1200), 50).convert("RGB")
    ask = guests.of(folder).ask
    try:
        for request in (SearchRequest("a happy dog"), SearchRequest("a happy dog", top=100, beams=900)):
            assert ask("answer", folder, request)["generative"]
        # The others are read when one is added.
        ask("forget", folder, Gallery.load(folder / "gallery").file_names[150:])
        names = ask("add", folder, [(f"{i}.png", large) for i in range(16)], [["a"]] * 16)
        ask("forget", folder, names)
    finally:
        while guests.make_room():
            pass


def test_a_memory_that_is_changed_is_lent_more_until_its_process_is_ended(settings: Settings) -> None:
    def taken() -> int:
        with Claims(settings.home / "under-way" / "memory").counted() as held:
            return sum(claim.size for claim in held)

    Process.made = []
    guests: Any = Guests(settings, Process)
    guests.of(HERE).ask("answer")
    asked = taken()
    for _ in range(2):
        guests.of(HERE).ask("add")
        assert taken() == asked + CHANGE_ROOM
    assert guests.make_room() and taken() == 0


def test_what_is_lent_is_never_more_than_the_limit_and_a_picture_waits_for_no_import(settings: Settings) -> None:
    one = lend(settings, "import", IMPORT, 0)
    with pytest.raises(GcrError, match=r"728 MiB of memory are taken by .* takes 728 more, the limit is 1,536: try"):
        lend(settings, "import", IMPORT, 0)
    pictures = [lend(settings, "picture", PICTURE, 0) for _ in range(2)]
    for kind, size in (("large", LARGE_PICTURE), ("picture", PICTURE)):
        with pytest.raises(GcrError, match="1,480 MiB of memory are taken"):
            lend(settings, kind, size, 0)
    pictures[0].give_back()
    with pytest.raises(GcrError, match="1,104 MiB of memory are taken"):
        lend(settings, "large", LARGE_PICTURE, 0)
    one.give_back()
    lend(settings, "large", LARGE_PICTURE, 0).give_back()
    pictures[1].give_back()


def test_who_waits_is_lent_what_another_gives_back(settings: Settings) -> None:
    held, lent = lend(settings, "import", IMPORT, 0), []
    waiting = threading.Thread(target=lambda: lent.append(lend(settings, "import", IMPORT, 60)))
    waiting.start()
    held.give_back()
    waiting.join()
    lent[0].give_back()


def test_those_who_wait_are_lent_in_turn_the_least_patient_first(settings: Settings) -> None:
    held, lent, waiting = lend(settings, "import", IMPORT, 0), {}, []

    def wait(name: str, kind: Kind, patience: float) -> None:
        lent[name] = lend(settings, kind, IMPORT, patience)

    for each in (
        ("import", "import", 600),
        ("another", "import", 600),
        ("memory", "memory", 60),
        ("large", "large", 60),
    ):
        waiting.append(threading.Thread(target=wait, args=each))
        waiting[-1].start()
        until(lambda: len(memory_budget._line) == len(waiting))
    with pytest.raises(GcrError, match="728 MiB of memory are taken by what visitors are sending, this takes 632 more"):
        lend(settings, "large", LARGE_PICTURE, 0)
    for name in ("memory", "large", "import", "another"):
        held.give_back()
        until(lambda: lent)
        assert list(lent) == [name]
        held = lent.pop(name)
    held.give_back()
    for thread in waiting:
        thread.join()
    assert not memory_budget._line


def test_who_is_refused_behind_others_is_told_that_they_wait(settings: Settings) -> None:
    with (
        memory_budget._in_line(settings.home, "memory", 0),
        pytest.raises(GcrError, match="others wait for more, this"),
    ):
        lend(settings, "import", IMPORT, 0.01)


def test_a_memory_that_is_changed_waits_behind_nobody(settings: Settings) -> None:
    held, lent = lend(settings, "memory", 700 * MIB, 0), []
    waiting = threading.Thread(target=lambda: lent.append(lend(settings, "import", IMPORT, 60)))
    waiting.start()
    until(lambda: memory_budget._line)
    changed = lend(settings, "change", CHANGE_ROOM, 0)
    held.give_back()
    changed.give_back()
    waiting.join()
    lent[0].give_back()


def test_what_can_never_be_lent_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(GcrError, match=r"takes 2,000 MiB .* limit here is 1,160 \(GCR_MAX_STRANGERS_MEMORY\): choose"):
        lend(settings, "memory", 2_000 * MIB, 60)


def test_another_server_on_this_home_counts_until_it_is_killed(settings: Settings) -> None:
    command = [sys.executable, "-c", OTHER_SERVER, str(settings.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"imports\n"
        with pytest.raises(GcrError, match="728 MiB of memory are taken"):
            lend(settings, "import", IMPORT, 0)
        server.kill()
        server.wait()
    lend(settings, "import", IMPORT, 0).give_back()


def test_a_memory_that_nobody_asks_makes_room_and_one_that_is_asked_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests_module, "needed", lambda folder: 512 * MIB)
    monkeypatch.setattr(guests_module, "PATIENCE", 0)
    Process.made = []
    guests: Any = Guests(settings, Process)
    guests.of(HERE).ask("answer")
    guests.of(THERE).ask("answer")
    assert [process.ended for process in Process.made] == [True, False]
    lend(settings, "import", IMPORT, 0).give_back()
    assert Process.made[1].ended
    guests.of(HERE).ask("answer")
    Process.made[-1].gate.clear()
    asking = threading.Thread(target=guests.of(HERE).ask, args=("answer",))
    asking.start()
    until(lambda: guests._asked == {HERE: 1})
    for ask in (lambda: lend(settings, "import", IMPORT, 0), lambda: guests.of(THERE).ask("answer")):
        with pytest.raises(GcrError, match="773 MiB of memory are taken"):
            ask()
    lend(settings, "picture", PICTURE, 0).give_back()
    Process.made[-1].gate.set()
    asking.join()


def test_pictures_and_imports_give_back_what_they_were_lent(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_module.Decoder(settings)
    for _ in range(4):
        with pytest.raises(GcrError, match=r"none\.png"):
            decoder.open(tmp_path / "none.png", 100)
        with pytest.raises(GcrError, match="no image"):
            decoder_module.collect([tmp_path], tmp_path / "into", lambda done, total: None, 100, settings)
    lend(settings, "import", IMPORT, 0).give_back()
    monkeypatch.setattr(decoder_module, "SECONDS", 0)
    held = [lend(settings, "picture", PICTURE, 0) for _ in range(4)]
    with pytest.raises(GcrError, match="MiB of memory are taken by what visitors are sending"):
        decoder.open(tmp_path / "none.png", 100)
    for each in held:
        each.give_back()
    while not decoder._free.empty():
        decoder._free.get().end()
