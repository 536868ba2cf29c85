"""The Gallery tab's routes: a memory's gallery in one compact answer, and changes to it, for its owner only."""

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gcr_core.errors import GcrError
from gcr_core.memory.manifest import read_manifest
from gcr_core.serving.loading import LoadingMemory
from gcr_core.settings import Settings
from gcr_core.ui import gallery_routes, gallery_tab
from gcr_core.ui.auth import Visitors
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.registry import SHIPPED, Registry

ROOT = Path(__file__).parents[2]
RED, BLUE = "red-circle.png", "blue-bar.png"


@pytest.fixture
def routes(registry):
    return gallery_routes.routes(registry)


def change(browser, kept, **asked):
    return browser.post(f"/gallery/{kept.id}", json=asked)


def refused(reply, status, message):
    assert reply.status_code == status
    assert re.search(message, reply.json()["mistake"]) and "\n" not in reply.json()["mistake"]


def test_a_memorys_gallery_is_listed_with_an_entry_for_each_image(owner, kept, tiny_gallery):
    file = kept.folder / "gallery" / "metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0] |= {"album": "round/red", "pseudo_queries": rows[0]["text"][1:]}
    rows[3] |= {"album": "bars", "text": []}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    listed = owner.get(f"/gallery/{kept.id}").json()
    assert listed["files"] == [row["file_name"] for row in rows]
    assert listed["captions"] == [row["text"] for row in rows]
    assert listed["written"] == {"0": [1]}
    assert listed["albums"] == ["bars", "round/red"]
    assert listed["album"] == [1, -1, -1, 0, *[-1] * 8]
    assert (listed["memory"], listed["fixed"], listed["added"]) == (kept.id, "", 0)


def test_a_gallery_without_albums_sends_none(owner, kept):
    listed = owner.get(f"/gallery/{kept.id}").json()
    assert listed["albums"] == listed["album"] == []


def test_a_list_that_the_browser_has_is_not_sent_again_until_the_memory_changes(owner, kept):
    reply = owner.get(f"/gallery/{kept.id}")
    known = {"If-None-Match": reply.headers["ETag"]}
    again = owner.get(f"/gallery/{kept.id}", headers=known)
    assert again.status_code == 304 and not again.content
    assert change(owner, kept, do="forget", files=[RED]).json() == {"waiting": 0}
    anew = owner.get(f"/gallery/{kept.id}", headers=known)
    assert RED not in anew.json()["files"] and anew.json()["version"] != reply.json()["version"]


def test_a_list_is_compressed_for_those_who_can_read_that(owner, kept):
    with owner.stream("GET", f"/gallery/{kept.id}", headers={"Accept-Encoding": "gzip"}) as reply:
        packed = b"".join(reply.iter_raw())
    plain = owner.get(f"/gallery/{kept.id}", headers={"Accept-Encoding": "identity"}).content
    assert gzip.decompress(packed) == plain and len(packed) < len(plain) / 2


def test_the_memory_that_ships_can_be_looked_through_and_not_changed(owner, loading, tiny_gallery):
    loading.load()
    listed = owner.get(f"/gallery/{SHIPPED}").json()
    assert listed["files"] == tiny_gallery.file_names
    assert "nothing in it can be changed" in listed["fixed"]
    reply = owner.post(f"/gallery/{SHIPPED}", json={"do": "forget", "files": [RED]})
    refused(reply, 400, "memorise a gallery of your own")


def test_who_asks_while_it_is_waking_is_told_so_at_once(owner):
    reply = owner.get(f"/gallery/{SHIPPED}")
    assert (reply.status_code, reply.json()) == (202, {"waking": True})


def test_a_memory_that_cannot_be_loaded_says_why(tmp_path, process, visit):
    def fails():
        raise GcrError(f"{tmp_path}/models/lost is no folder here: name one that is")

    loading = LoadingMemory(fails)
    loading.load()
    registry = Registry(loading, process, Visitors(Settings(home=tmp_path / "home")))
    reply = TestClient(Starlette(routes=gallery_routes.routes(registry))).get(f"/gallery/{SHIPPED}")
    refused(reply, 404, "lost is no folder here")
    assert str(tmp_path) not in reply.text


@pytest.mark.parametrize(
    "ask",
    [
        lambda browser, path: browser.get(path),
        lambda browser, path: browser.post(path, json={"do": "forget", "files": [RED]}),
    ],
)
def test_what_is_not_the_askers_is_not_found(ask, visit, owner, kept):
    refused(ask(visit(), f"/gallery/{kept.id}"), 404, "no such memory of yours")
    refused(ask(owner, "/gallery/nothing_here"), 404, "no such memory of yours")
    assert RED in kept.gallery().file_names


def test_another_sites_page_changes_nothing(owner, kept):
    asked = {"do": "forget", "files": [RED]}
    refused(
        owner.post(f"/gallery/{kept.id}", json=asked, headers={"Sec-Fetch-Site": "cross-site"}), 403, "another site"
    )
    assert RED in kept.gallery().file_names


def test_pictures_are_forgotten_by_their_names(owner, kept):
    assert change(owner, kept, do="forget", files=[RED, BLUE]).status_code == 200
    assert {RED, BLUE}.isdisjoint(kept.gallery().file_names) and len(kept.gallery()) == 10


def test_captions_are_put_in_the_place_of_others_and_counted_as_changes(owner, kept):
    assert change(owner, kept, do="caption", files=[RED], captions=["a setting  sun"]).status_code == 200
    gallery = kept.gallery()
    assert gallery.captions[gallery.index(RED)] == ["a setting sun"]
    assert read_manifest(kept.folder)["changes"]["captions"] == 2


def test_who_changes_captions_hears_how_many_pictures_are_not_found_by_them_yet(owner, kept):
    assert change(owner, kept, do="caption", files=[RED], captions=["a setting sun"]).json() == {"waiting": 0}
    (kept.folder / "gallery" / BLUE).unlink()
    assert change(owner, kept, do="caption", files=[BLUE], captions=["the sea"]).json() == {"waiting": 1}


def test_captions_are_added_to_those_of_several_pictures(owner, kept):
    before = kept.gallery()
    assert (
        change(owner, kept, do="caption", files=[RED, BLUE], captions=["from a toy box"], add=True).status_code == 200
    )
    after = kept.gallery()
    for name in (RED, BLUE):
        assert after.captions[after.index(name)] == [*before.captions[before.index(name)], "from a toy box"]


def test_what_was_forgotten_is_brought_back_to_its_place(owner, kept):
    before = kept.gallery()
    assert change(owner, kept, do="forget", files=[RED, BLUE]).status_code == 200
    assert change(owner, kept, do="restore", files=[RED, BLUE]).status_code == 200
    after = kept.gallery()
    assert (after.file_names, after.captions) == (before.file_names, before.captions)
    assert all(map(after.has_picture, range(len(after))))


def test_pictures_are_moved_to_an_album_and_out_of_it(owner, kept):
    assert change(owner, kept, do="move", files=[RED, BLUE], album=" toy  box ").status_code == 200
    assert kept.gallery().album_sizes == {"toy box": 2}
    assert change(owner, kept, do="move", files=[BLUE]).status_code == 200
    assert kept.gallery().album_sizes == {"toy box": 1}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"do": "dance", "files": [RED]}, "'dance' is nothing that can be done"),
        ({"do": "forget", "files": []}, "no picture is chosen"),
        ({"do": "forget"}, "files is NoneType, not a list of texts"),
        ({"do": "forget", "files": [7]}, "not a list of texts"),
        ({"do": "forget", "files": ["nothing.png"]}, "'nothing.png' is not in the gallery"),
        ({"do": "restore", "files": ["nothing.png"]}, "'nothing.png' cannot be brought back"),
        ({"do": "move", "files": [RED], "album": "x" * 5_000}, "an album of 5,000 characters, the limit is"),
        ({"do": "caption", "files": [RED], "captions": "red"}, "captions is str, not a list of texts"),
        ({"do": "caption", "files": [RED], "captions": ["x" * 1_001]}, "1,001 characters, the limit is 1,000"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_changes_nothing(owner, kept, asked, message):
    before = (kept.folder / "gallery" / "metadata.jsonl").read_bytes()
    refused(change(owner, kept, **asked), 404 if asked["do"] == "restore" else 400, message)
    assert (kept.folder / "gallery" / "metadata.jsonl").read_bytes() == before


def test_a_memory_that_is_being_worked_on_is_not_changed(owner, kept, registry):
    registry.doing[kept.id] = "Consolidating…"
    refused(change(owner, kept, do="forget", files=[RED]), 400, "being worked on")


def test_the_frame_has_each_part_that_the_script_fills():
    with gr.Blocks() as page, gr.Tab("Gallery") as tab:
        gallery_tab.build(tab, SimpleNamespace(chosen=gr.HTML("")))
    [frame] = [block.value for block in page.blocks.values() if getattr(block, "elem_id", "") == "pictures"]
    script = (ROOT / "assets/gallery.js").read_text(encoding="utf-8")
    wanted = set(re.findall(r'part\("(\w+)"\)', script))
    assert wanted and wanted == set(re.findall(r'data-part="(\w+)"', frame))
    for verb in re.findall(r'data-does="(\w+)"', frame):
        assert re.search(rf"^  (async )?{verb}[(:]", script, re.MULTILINE)
    for value in (*gallery_tab.ONLY, *gallery_tab.ORDERS):
        assert re.search(rf'^    (async )?"?{value}"?:', script, re.MULTILINE)
