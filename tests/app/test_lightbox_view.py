"""What the lightbox is told of a picture, and who is told."""

import json
import shutil
import urllib.error
import urllib.request

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui import html, lightbox_view


def test_an_image_is_told_with_its_captions_its_album_and_where_its_pictures_are(tiny_gallery, tmp_path):
    tiny_gallery.with_pseudo_queries({1: ["written by a model"]}).save(tmp_path)
    gallery = Gallery.load(tmp_path)
    gallery.with_albums(["", "Holidays/2019"] + [""] * (len(gallery) - 2))
    shown = html.ShownGallery(gallery, "AAAAAAAAAAAA", own=True)
    assert lightbox_view.about(shown, 1) == {
        "file_name": gallery.file_names[1],
        "name": gallery.captions[1][0],
        "album": "Holidays/2019",
        "captions": gallery.captions[1],
        "written": ["written by a model"],
        "url": shown.url(1),
        "large": shown.large_url(1),
        "own": True,
    }
    assert not lightbox_view.about(html.ShownGallery(gallery, "shipped"), 0)["own"]


def test_the_route_tells_of_a_picture_and_nothing_of_what_is_not_there(app_address, client, tiny_memory):
    client.predict("a dog", api_name="/search")  # waits until the memory is there
    with urllib.request.urlopen(f"{app_address}about/shipped/0") as reply:
        assert json.load(reply)["file_name"] == tiny_memory.gallery.file_names[0]
        assert reply.headers["Cache-Control"] == "no-store"
    hit = client.predict("a dog", api_name="/search")["generative"][0]
    index = tiny_memory.gallery.index(hit["file_name"])
    with urllib.request.urlopen(f"{app_address}recalled/shipped/{index}") as reply:
        assert json.load(reply) == {"identifier": hit["identifier"], "said": ""}
    for place in (f"shipped/{len(tiny_memory.gallery)}", "shipped/-1", "AAAAAAAAAAAA/0"):
        for route in ("about", "recalled"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{app_address}{route}/{place}")
            assert refused.value.code == 404


def test_a_stranger_is_told_nothing_of_somebodys_memory(shared_address, shared_folder, tiny_memory_dir):
    owner, stranger = "o" * 40, "s" * 40
    shelf, id = Workspace.of(shared_folder / "home", owner, Settings()), new_id()
    shelf.root.mkdir(parents=True, exist_ok=True)
    shelf.keep(shutil.copytree(tiny_memory_dir, shelf.root / "copied"), id, "Shapes")

    def ask(route, secret):
        request = urllib.request.Request(f"{shared_address}{route}/{id}/0", headers={"X-GCR-Owner": secret})
        return urllib.request.urlopen(request)

    with ask("about", owner) as reply:
        assert json.load(reply)["own"]
    with ask("recalled", owner) as reply:
        assert json.load(reply)["identifier"]
    for route in ("about", "recalled"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(route, stranger)
        assert refused.value.code == 404
