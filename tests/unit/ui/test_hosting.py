"""Where the page is hosted: what it says of the place, and places that will not do."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gcr_core import settings as settings_module
from gcr_core.errors import HubError, InputError
from gcr_core.serving.loading import LoadingMemory
from gcr_core.settings import Settings
from gcr_core.ui import hosting


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "me/my-space")


def test_ones_own_machine_has_nothing_to_say(monkeypatch, tmp_path):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(hosting, "CONTAINER_MARKS", ())
    assert hosting.notices(Settings(home=tmp_path)) == ""
    assert hosting.notices(Settings(home=tmp_path, training=False)) == ""


def test_a_space_without_training_offers_to_be_duplicated(space, tmp_path):
    shown = hosting.notices(Settings(home=tmp_path, training=False))
    assert 'href="https://huggingface.co/spaces/me/my-space?duplicate=true"' in shown
    assert "Duplicate this Space" in shown and "data-once" not in shown


def test_a_spaces_name_cannot_write_html(monkeypatch, tmp_path):
    monkeypatch.setenv("SPACE_ID", 'me/"><script>')
    assert "<script>" not in hosting.notices(Settings(home=tmp_path, training=False))


@pytest.fixture
def disks(monkeypatch):
    """A root and a home on its disk, and a volume."""
    disks = {Path("/"): 1, Path("/data/gcr"): 2, Path("/home/user/gcr"): 1}
    monkeypatch.setattr(hosting, "_disk", disks.__getitem__)


@pytest.mark.usefixtures("disks", "space")
def test_on_a_space_without_a_volume_the_page_says_once_what_is_lost_and_the_log_what_to_do():
    settings = Settings(home=Path("/home/user/gcr"))
    shown = hosting.notices(settings)
    assert "lost when this Space restarts" in shown
    assert 'data-once="lost-on-restart" hidden' in shown and "data-dismiss" in shown
    assert "bucket" not in shown and "/home" not in shown
    assert "attach a storage bucket at /data" in hosting.advise(settings)
    for kept in (Settings(home=Path("/data/gcr")), Settings(home=Path("/home/user/gcr"), training=False)):
        assert "data-once" not in hosting.notices(kept) and hosting.advise(kept) == ""


@pytest.mark.usefixtures("disks")
def test_a_container_elsewhere_is_told_in_the_log_to_mount_a_volume(monkeypatch, tmp_path):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(hosting, "CONTAINER_MARKS", (str(tmp_path),))
    settings = Settings(home=Path("/home/user/gcr"))
    assert hosting.notices(settings) == ""
    assert "mount a volume at /home/user/gcr" in hosting.advise(settings)
    monkeypatch.setattr(hosting, "CONTAINER_MARKS", ())
    assert hosting.advise(settings) == ""


def test_strangers_are_told_how_long_what_they_keep_is_kept():
    assert "Kept until 7 days after your last visit" in hosting.kept_for(Settings(visitors=True, unused_days=7))
    assert hosting.kept_for(Settings(visitors=True, unused_days=0)) == ""
    assert hosting.kept_for(Settings()) == ""


def test_a_folder_that_is_not_there_yet_has_the_disk_of_the_one_above(tmp_path):
    assert hosting._disk(tmp_path / "not" / "there") == tmp_path.stat().st_dev


def test_on_a_space_with_a_bucket_everything_is_kept_there_unless_set(space, monkeypatch, tmp_path):
    monkeypatch.delenv("GCR_HOME")
    monkeypatch.setattr(settings_module, "BUCKET", SimpleNamespace(is_mount=lambda: False))
    assert Settings.from_env().home == Settings.home
    monkeypatch.setattr(Path, "is_mount", lambda path: path == Path("/data"))
    monkeypatch.setattr(settings_module, "BUCKET", Path("/data"))
    assert Settings.from_env().home == Path("/data/gcr")
    monkeypatch.setenv("GCR_HOME", str(tmp_path))
    assert Settings.from_env().home == tmp_path


def test_a_home_that_will_do_is_left_as_it_was(tmp_path):
    hosting.check_home(tmp_path / "home")
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize("home", ["/proc/gcr", "file/gcr"])
def test_a_home_where_nothing_can_be_kept_is_refused_in_one_line(home, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"GCR_HOME is .*, which cannot keep anything .*: name a folder") as refusal:
        hosting.check_home(tmp_path / home)
    assert "\n" not in str(refusal.value)


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def try_lock(path: Path) -> int:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(hosting, "try_lock", try_lock)
    with pytest.raises(InputError, match="locked"):
        hosting.check_home(tmp_path)


def test_health_is_well_while_the_memory_wakes_and_ill_where_it_cannot(tmp_path):
    def fail() -> None:
        raise HubError("there is no such memory: name another")

    memory: Any = SimpleNamespace(state="ready")
    well, ill = LoadingMemory(lambda: memory), LoadingMemory(fail)
    client = TestClient(Starlette(routes=[hosting.health(well)]))
    assert client.get("/health").json() == {"memory": "waking", "reason": ""}
    well.load()
    assert client.get("/health").json() == {"memory": "ready", "reason": ""}
    memory.state = "hung"
    hung = client.get("/health")
    assert (hung.status_code, hung.json()["memory"]) == (503, "hung")
    assert "no sign of life" in hung.json()["reason"]
    memory.state = "waking"
    assert client.get("/health").json() == {"memory": "waking", "reason": ""}
    ill.load()
    answer = TestClient(Starlette(routes=[hosting.health(ill)])).get("/health")
    assert answer.status_code == 503
    assert "no such memory" in answer.json()["reason"]
