"""An open page hears of what was changed elsewhere: `/fresh` answers otherwise once a part is of something else."""

import json
import shutil
import urllib.error
import urllib.request

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.files.layout import undo_folder
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.ui import freshness
from gcr_core.ui.memorize_tab import _gone


def fresh(address, visitor=None):
    headers = {"X-GCR-Owner": visitor.headers["X-GCR-Owner"]} if visitor else {}
    with urllib.request.urlopen(urllib.request.Request(f"{address}fresh", headers=headers)) as response:
        return json.load(response)


def changed(before, after):
    return {part for part in after if after[part] != before[part]}


def test_a_rename_and_a_delete_change_what_the_memories_are_of(
    new_visitor, shared_address, shared_folder, tiny_memory_dir
):
    visitor, id = new_visitor(), new_id()
    shelf = Workspace.of(shared_folder / "home", visitor.headers["X-GCR-Owner"])
    states = [fresh(shared_address, visitor)]

    def next_state():
        states.append(fresh(shared_address, visitor))
        return changed(*states[-2:])

    assert states[0]["alive"] is False and next_state() == set()
    shelf.keep(shutil.copytree(tiny_memory_dir, shelf.root / "copied"), id, "Shapes")
    assert next_state() == {"memories"} and next_state() == set()
    visitor.predict("rename", id, "Forms", api_name="/memories")
    assert next_state() == {"memories"}
    visitor.predict("delete", id, api_name="/memories")
    assert next_state() == {"memories"}


def test_who_has_no_secret_hears_of_nothing(shared_address):
    with pytest.raises(urllib.error.HTTPError) as refused:
        fresh(shared_address)
    assert refused.value.code == 400


def test_a_memory_that_is_gone_has_a_stamp_too(tmp_path):
    assert freshness.stamp(tmp_path) == (0, 0)


def test_what_a_memory_has_forgotten_is_read_from_the_disk_once(tiny_gallery, tmp_path, monkeypatch):
    load, read = Gallery.load, []

    def counted(folder):
        read.append(folder)
        return load(folder)

    def forget(call, gallery):
        folder = undo_folder(tmp_path) / call / "gallery"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        Gallery(folder, gallery.file_names[:2], gallery.captions[:2]).with_captions(gallery.captions[:2])

    monkeypatch.setattr(Gallery, "load", counted)
    left, other = tiny_gallery.without([0, 1]), tiny_gallery.without(range(5))
    forget("1", tiny_gallery)
    for _ in range(3):
        assert _gone(tmp_path, left) == sorted(tiny_gallery.file_names[:2])
    assert _gone(tmp_path, tiny_gallery) == [] and len(read) == 1
    forget("1", other)
    assert _gone(tmp_path, left) == [], "the list of another call under the same number"
    assert _gone(tmp_path, Gallery(tmp_path, [], [])) == sorted(other.file_names[:2]) and len(read) == 2
