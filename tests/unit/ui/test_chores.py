"""Chores: long work on a memory, whose end every open page of its owner's tells once."""

import threading
from contextlib import nullcontext

import pytest
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.errors import GcrError, InputError
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.ui import chores as chores_module
from gcr_core.ui.chores import MAX_ENDS, Chores
from tests.patience import until


@pytest.fixture
def chores():
    return Chores({})


def page(chores, *ids):
    """What a page tells: at first what no page has told, then what is new since it asked last."""
    known = None

    def told():
        nonlocal known
        since, known = known, chores.last(ids)
        return chores.over(ids, since, known)

    return told


def test_an_end_is_told_once_in_every_open_page_of_its_owners_and_in_no_other(chores):
    first, second, stranger = page(chores, "a", "b"), page(chores, "a", "b"), page(chores, "c")
    assert [first(), second(), stranger()] == [[], [], []]
    chores.end("a", "good", "Added.")
    chores.end("b", "", "The hub refused.")
    assert first() == second() == [("good", "Added."), ("", "The hub refused.")]
    assert first() == second() == stranger() == []
    chores.end("a", "good", "Pushed.")
    assert first() == second() == [("good", "Pushed.")]


def test_what_ended_while_no_page_was_open_is_told_by_the_next_and_by_none_after_it(chores):
    chores.end("a", "good", "Added.")
    assert page(chores, "a")() == [("good", "Added.")]
    assert page(chores, "a")() == []


def test_what_ends_while_a_page_is_rendered_is_told_by_its_next_question(chores):
    known = chores.last("a")
    chores.end("a", "good", "Added.")
    assert chores.over("a", 0, known) == []
    assert chores.over("a", known, chores.last("a")) == [("good", "Added.")]


def test_a_memory_is_worked_on_once_at_a_time_and_how_it_failed_is_an_end(chores):
    go_on, told = threading.Event(), page(chores, "a")

    def work(say):
        say("Half of it…")
        go_on.wait()
        raise InputError("nothing was added: choose a picture")

    told()
    chores.begin("a", "Adding pictures…", work)
    until(lambda: chores.doing == {"a": "Half of it…"})
    with pytest.raises(InputError, match="is being worked on"):
        chores.begin("a", "Pushing…", work)
    go_on.set()
    until(lambda: not chores.doing)
    assert told() == [("", "nothing was added: choose a picture")]


def test_of_many_memories_the_oldest_ends_are_forgotten(chores):
    ids = [str(number) for number in range(MAX_ENDS + 1)]
    for id in ids:
        chores.end(id, "good", id)
    told = page(chores, *ids)()
    assert len(told) == MAX_ENDS and told[0] == ("good", "1")


def test_adding_pictures_counts_as_an_import_until_it_ends(chores, tmp_path):
    go_on, workspace = threading.Event(), Workspace(tmp_path, Settings(max_imports=1))
    chores.begin("a", "Adding pictures…", lambda say: str(go_on.wait()), workspace.importing())
    with pytest.raises(GcrError, match="1 imports of yours are under way, the limit is 1: wait"):
        chores.begin("b", "Adding pictures…", lambda say: "", workspace.importing())
    assert list(chores.doing) == ["a"]
    go_on.set()
    until(lambda: not chores.doing)
    with workspace.importing():
        pass


def test_what_is_added_counts_with_what_is_kept_before_it_is_written(tmp_path, monkeypatch):
    picture = tmp_path / "new.png"
    Image.new("RGB", (40, 30)).save(picture)
    monkeypatch.setattr(chores_module.uploads, "laid_out", lambda files, most: nullcontext([picture]))
    added = []

    class Memory:
        gallery = Gallery(tmp_path, [], [])

        def add(self, pictures, captions):
            added.extend(pictures)
            return ["new.png"]

    def work(limit):
        workspace = Workspace(tmp_path / "mine", Settings(max_kept_bytes=limit))
        return chores_module.adding(Memory(), workspace, [], [], open_image)(str)

    with pytest.raises(GcrError, match="you would keep"):
        work(picture.stat().st_size - 1)
    assert not added
    assert work(picture.stat().st_size).startswith("Added new.png")
    assert len(added) == 1
