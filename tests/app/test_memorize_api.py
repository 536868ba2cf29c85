"""The endpoints /memorize, /job and /memories: from pictures to a memory that answers, each visitor for themselves."""

import io
import json
import shutil
import time
import urllib.error
import urllib.request
import zipfile

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from gcr_core.memory.memory import Memory
from gcr_core.serving.workspace import Workspace, new_id

PATIENCE_SECONDS = 300
UNKNOWN = "AAAAAAAAAAAA"


def pictures(gallery):
    return [handle_file(path) for path in sorted(gallery.root.iterdir()) if path.is_file()]


def memorize(client, gallery, **options):
    return client.predict(pictures(gallery), api_name="/memorize", **{"preset": "quick", **options})


def job(client, id, action="status"):
    return client.predict(id, action, api_name="/job")


def memories(client, *arguments):
    return client.predict(*arguments, api_name="/memories")


def until(client, id, *states):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (status := job(client, id))["state"] not in states:
        assert time.monotonic() < deadline, status
        assert status["state"] in ("queued", "running", "stopping"), status
        time.sleep(0.2)
    return status


def get(address, client=None):
    headers = {"X-GCR-Owner": client.headers["X-GCR-Owner"]} if client else {}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as response:
        return response.read()


@pytest.fixture(scope="module")
def owner(new_visitor):
    return new_visitor()


@pytest.fixture(scope="module")
def done(owner, tiny_gallery):
    """A job of the owner's that has made a memory."""
    return until(owner, memorize(owner, tiny_gallery, name="Shapes")["id"], "done")


def test_pictures_become_a_memory_that_search_asks_by_its_id(owner, done):
    assert {"images": 12, "preset": "quick"}.items() <= done["report"].items()
    listed = memories(owner)
    assert [(row["id"], row["name"], row["images"]) for row in listed["memories"]] == [(done["memory"], "Shapes", 12)]
    assert [row["id"] for row in listed["jobs"]] == [done["id"]]
    answer = owner.predict("a red circle", 3, 5, done["memory"], api_name="/search")
    assert len(answer["generative"]) == len(answer["dense"]) == 3


def test_what_cannot_be_used_is_listed_and_the_rest_goes_on(owner, tiny_gallery, tmp_path):
    bad = tmp_path / "notes.jpg"
    bad.write_text("no picture")
    begun = owner.predict([*pictures(tiny_gallery), handle_file(bad)], "quick", api_name="/memorize")
    job(owner, begun["id"], "stop")
    assert [name for name, _ in begun["skipped"]] == ["notes.jpg"]
    until(owner, begun["id"], "stopped")
    assert job(owner, begun["id"], "remove")["state"] == "removed"


def test_a_download_loads_as_a_memory_and_is_kept_nowhere_else(owner, done, shared_address, shared_folder, tmp_path):
    archive = get(f"{shared_address}download/{done['memory']}", owner)
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path)
    assert len(Memory.from_pretrained(tmp_path, device="cpu").gallery) == 12
    deadline = time.monotonic() + PATIENCE_SECONDS
    while list((shared_folder / "home").rglob("exports/*/*.zip")):
        assert time.monotonic() < deadline


def test_a_memory_is_renamed_and_deleted(new_visitor, shared_folder, tiny_memory_dir):
    visitor, id = new_visitor(), new_id()
    shelf = Workspace.of(shared_folder / "home", visitor.headers["X-GCR-Owner"])
    shelf.keep(shutil.copytree(tiny_memory_dir, shelf.root / "copied"), id, "Shapes")
    assert memories(visitor, "rename", id, "Forms")["memories"][0]["name"] == "Forms"
    assert memories(visitor, "delete", id)["memories"] == []
    with pytest.raises(AppError, match="no such memory"):
        visitor.predict("a red circle", 3, 5, id, api_name="/search")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda client: job(client, UNKNOWN), "no such job"),
        (lambda client: job(client, "../../etc"), "no such job"),
        (lambda client: job(client, UNKNOWN, "burn"), "choose status, stop, resume or remove"),
        (lambda client: memories(client, "burn"), "choose list, rename or delete"),
        (lambda client: memories(client, "delete", "../mine"), "no such memory"),
        (lambda client: client.predict("dog", 3, 5, UNKNOWN, api_name="/search"), "no such memory"),
        (lambda client: client.predict([], "quick", api_name="/memorize"), "picture|image|file"),
        (lambda client: client.predict([], "slowly", api_name="/memorize"), "quick, balanced, thorough"),
        (lambda client: client.predict([{"path": "/etc/passwd"}], api_name="/memorize"), "no upload"),
    ],
)
def test_a_mistake_is_one_message_with_the_remedy(owner, ask, message):
    with pytest.raises(AppError, match=message):
        ask(owner)


def test_a_stranger_reaches_nothing_with_anothers_ids(new_visitor, done, owner, shared_address, tiny_gallery):
    stranger, id, memory = new_visitor(), done["id"], done["memory"]
    assert memories(stranger) == {"memories": [], "jobs": []}
    for ask in (
        lambda: job(stranger, id),
        lambda: job(stranger, id, "stop"),
        lambda: job(stranger, id, "resume"),
        lambda: job(stranger, id, "remove"),
        lambda: memories(stranger, "rename", memory, "mine"),
        lambda: memories(stranger, "delete", memory),
        lambda: memories(stranger, "delete", done["gallery"]),
        lambda: stranger.predict("dog", 3, 5, memory, api_name="/search"),
    ):
        with pytest.raises(AppError, match="no such"):
            ask()
    for path in (f"download/{memory}", f"picture/{memory}/0/1", f"thumbnail/{done['gallery']}/red-circle.png/1"):
        assert get(shared_address + path, owner)
        for other in (stranger, None):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(shared_address + path, other)
            assert refused.value.code == 404
    assert job(owner, id)["state"] == "done"


def test_no_url_of_gradios_leads_to_what_is_kept(owner, done, shared_address, shared_folder):
    facts = next(shared_folder.glob(f"home/owners/*/memories/{done['memory']}/memory.json"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{shared_address}gradio_api/file={facts}", owner)
    assert refused.value.code in (403, 404)


def test_without_a_secret_only_the_shipped_memory_answers(shared_address):
    nobody = Client(shared_address, verbose=False)
    assert nobody.predict("a dog", 3, 5, "", api_name="/search")["dense"]
    with pytest.raises(AppError, match="secret"):
        memories(nobody)
    nobody.close()


def test_the_page_gives_a_browser_a_secret_that_no_script_can_read(shared_address):
    with urllib.request.urlopen(shared_address) as response:
        cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("gcr-owner=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    known = urllib.request.Request(shared_address, headers={"Cookie": cookie.split(";")[0]})
    with urllib.request.urlopen(known) as response:
        assert response.headers["Set-Cookie"] == cookie, "kept for another year"


def test_on_ones_own_machine_there_is_no_cookie(app_address, client):
    with urllib.request.urlopen(app_address) as response:
        assert response.headers["Set-Cookie"] is None
    assert memories(client) == {"memories": [], "jobs": []}


def test_the_api_has_four_endpoints(client):
    documented = client.view_api(return_format="dict", print_info=False)
    assert documented["named_endpoints"].keys() == {"/search", "/memorize", "/job", "/memories"}
    assert documented["unnamed_endpoints"] == {}


def test_where_training_is_switched_off_it_says_so(bare_client, tiny_gallery):
    with pytest.raises(AppError, match="GCR_TRAINING"):
        memorize(bare_client, tiny_gallery)
    with pytest.raises(AppError, match="GCR_TRAINING"):
        job(bare_client, "any", "resume")
    with urllib.request.urlopen(f"{bare_client.src}config") as response:
        assert json.load(response)["title"]


def test_a_refused_training_leaves_no_pictures_behind(new_visitor, tiny_gallery, shared_folder):
    visitor = new_visitor()
    with pytest.raises(AppError, match="the name has 81 characters"):
        memorize(visitor, tiny_gallery, name="x" * 81)
    owner = Workspace.of(shared_folder / "home", visitor.headers["X-GCR-Owner"])
    assert owner.galleries() == []
