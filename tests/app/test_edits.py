"""What is typed on the page is kept by a route of its own: for its owner, from the page itself, the last typed last."""

import errno
import random
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from PIL import Image

from gcr_core.data import gallery
from gcr_core.data.gallery import Gallery
from gcr_core.files import atomic
from gcr_core.settings import Settings
from gcr_core.ui import edits
from gcr_core.ui.auth import COOKIE, HEADER, Visitors
from gcr_core.ui.memorize_draft import Draft
from gcr_core.ui.registry import Registry

ORIGIN = "http://testserver"
PAGE = "fc3k2j"


@pytest.fixture
def draft(tmp_path):
    registry = Registry(None, None, Visitors(Settings(home=tmp_path / "home", visitors=True)))
    return Draft(registry, SimpleNamespace(list=lambda shelf: []), {}, print)


@pytest.fixture
def routes(draft):
    return [edits.route(draft.edits)]


@pytest.fixture
def kept(draft, owner, tmp_path):
    """The owner's gallery of two pictures without captions: its id, and what its captions are at the moment."""
    for number in range(2):
        Image.new("RGB", (16, 16), (99 * number, 0, 0)).save(tmp_path / f"IMG_{number}.png")
    request = SimpleNamespace(headers={HEADER: owner.cookies[COOKIE]}, cookies={})
    id, folder = draft.registry.visitors.workspace(request).new_gallery()
    made = Gallery.collect(sorted(tmp_path.glob("*.png")), folder)
    return SimpleNamespace(id=id, folder=made.root, captions=lambda: Gallery.load(made.root).captions, request=request)


def send(browser, kept, own, number=1, visit=PAGE, index=0, **headers):
    edit = {"do": "caption", "gallery": kept.id, "file": f"IMG_{index}.png", "own": own}
    return browser.post("/edit", json=edit | {"visit": visit, "number": number}, headers=headers)


def refused(reply, status, message):
    assert reply.status_code == status
    words = reply.json()["mistake"]
    assert re.search(message, words) and "\n" not in words


def test_what_was_typed_is_on_the_disk_when_it_is_answered_and_in_what_is_shown_from_then_on(draft, owner, kept):
    before = draft.show(kept.request)[draft.table]
    edition = send(owner, kept, " a red  square \n\n seen  from above").json()["edition"]
    assert kept.captions() == [["a red square", "seen from above"], []]
    after = draft.show(kept.request)
    shown = [
        int(re.search('data-edition="(\\d+)"', page)[1]) for page in (before, after[draft.table], after[draft.how])
    ]
    assert shown[0] < edition <= min(shown[1:])
    assert 'value="a red square\nseen from above"' in after[draft.table]
    assert "1 of 2 images have no caption" in after[draft.notes]


def test_a_strangers_cookie_and_none_are_refused(visit, owner, kept):
    send(owner, kept, "mine")
    refused(send(visit(), kept, "theirs", number=2), 404, "no such gallery of yours")
    refused(send(visit(cookie=False), kept, "theirs", number=2), 400, "secret: allow this page's cookie")
    refused(owner.post("/edit", json={"do": "caption", "gallery": "../mine", "number": 1}), 404, "no such gallery")
    assert kept.captions()[0] == ["mine"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "", "Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "", "Origin": "http://testserver.elsewhere.example"},
        {"Sec-Fetch-Site": "", "Origin": "http://testserver:8080"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
    ],
)
def test_another_sites_page_writes_nothing_with_the_owners_cookie(owner, kept, headers):
    refused(send(owner, kept, "theirs", **headers), 403, "another site's page")
    assert kept.captions()[0] == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_of_another_site_could_send_is_refused(owner, kept, kind):
    refused(send(owner, kept, "theirs", **{"Content-Type": kind}), 415, "not called application/json")
    assert kept.captions()[0] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://owner-name.hf.space"},
        {"Sec-Fetch-Site": "", "Origin": ORIGIN},
        {"Content-Type": "application/json; charset=utf-8"},
    ],
    ids=["behind a proxy that names itself", "of a browser that says no more than the origin", "charset"],
)
def test_the_page_itself_is_heard(owner, kept, headers):
    assert send(owner, kept, "mine", **headers).status_code == 200
    assert kept.captions()[0] == ["mine"]


def test_below_a_path_of_a_proxys_it_is_the_same(visit, owner, kept):
    below = visit(root_path="/apps/recall")
    below.cookies = owner.cookies
    assert send(below, kept, "mine").status_code == 200
    assert kept.captions()[0] == ["mine"]


@pytest.mark.parametrize(
    ("own", "status", "message"),
    [
        ("x" * 1_001, 400, "IMG_0.png has a caption of 1,001 characters, the limit is 1,000: shorten it"),
        ("\n".join(map(str, range(1_001))), 400, "IMG_0.png has 1,001 captions, the limit is 1,000: keep the best"),
        ("x" * edits.MAX_REQUEST_BYTES, 413, r"has 6,000,\d{3} bytes, the limit is 6,000,000: shorten it"),
    ],
    ids=["caption", "captions", "request"],
)
def test_too_much_is_refused_in_one_line_and_leaves_what_was_there(owner, kept, own, status, message):
    send(owner, kept, "mine")
    refused(send(owner, kept, own, number=2), status, message)
    assert kept.captions()[0] == ["mine"]


def test_as_many_captions_as_a_picture_may_have_can_be_typed(owner, kept):
    longest = [f"{number:04}" + "🎈" * 996 for number in range(1_000)]
    assert send(owner, kept, "\n".join(longest)).status_code == 200
    assert kept.captions()[0] == longest


def test_an_edit_that_comes_late_or_twice_changes_nothing_and_is_answered_like_the_last(owner, kept):
    last = send(owner, kept, "typed last", number=3).json()
    assert send(owner, kept, "typed first", number=1).json() == last
    assert send(owner, kept, "typed last", number=3).json() == last
    assert kept.captions()[0] == ["typed last"]
    send(owner, kept, "of another picture", number=2, index=1)
    assert kept.captions() == [["typed last"], ["of another picture"]]
    send(owner, kept, "in a page opened later", number=1, visit="another")
    send(owner, kept, "typed last", number=3)
    assert kept.captions()[0] == ["in a page opened later"]


def test_of_edits_that_come_all_at_once_the_last_typed_stays(draft, kept):
    numbers = list(range(1, 41))
    random.Random(0).shuffle(numbers)

    def keep(number):
        edit = {"do": "caption", "gallery": kept.id, "file": f"IMG_{number % 2}.png", "own": f"edit {number}"}
        return draft.edits.keep(kept.request, edit | {"visit": PAGE, "number": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, numbers))
    assert kept.captions() == [["edit 40"], ["edit 39"]]
    assert draft.registry.gallery(kept.request, kept.id).captions == kept.captions()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do": "discard"}, "'discard' is nothing that can be typed here"),
        ({"do": ["caption"]}, "nothing that can be typed here"),
        ({"number": "2.5"}, "number is '2.5', not a whole number"),
        ({"number": "9" * 5_000}, "number is '9{40}', not a whole number"),
        ({"file": "IMG_2.png"}, "'IMG_2.png' is not in the gallery of 2 images"),
        ({"file": 0}, "'0' is not in the gallery"),
        ({"visit": "x" * 5_000}, "characters, the limit is 2,000: reload the page"),
    ],
)
def test_what_no_page_sends_is_refused_in_one_line(owner, kept, change, message):
    edit = {"do": "caption", "gallery": kept.id, "file": "IMG_0.png", "own": "x", "visit": PAGE, "number": 1}
    refused(owner.post("/edit", json=edit | change), 400, message)
    assert kept.captions() == [[], []]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"[" * 100_000, b'"\xff"', b"null"])
def test_what_is_no_json_object_is_refused_in_one_line(owner, body):
    reply = owner.post("/edit", content=body, headers={"Content-Type": "application/json"})
    refused(reply, 400, "no JSON object: reload the page")


def test_what_a_full_disk_did_not_take_is_said_and_taken_when_it_is_sent_again(owner, kept, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(gallery, "write_text", full)
        refused(send(owner, kept, "mine"), 500, "cannot be written .No space left on device.: make room")
    assert gallery.write_text is atomic.write_text and kept.captions()[0] == []
    assert send(owner, kept, "mine").status_code == 200
    assert kept.captions()[0] == ["mine"]


def test_fields_are_forgotten_beyond_a_number_and_still_kept(owner, kept, draft, monkeypatch):
    monkeypatch.setattr(edits, "REMEMBERED", 1)
    send(owner, kept, "a red square")
    send(owner, kept, "a blue square", index=1)
    assert len(draft.edits._last) == 1
    send(owner, kept, "a green square", number=2)
    assert kept.captions() == [["a green square"], ["a blue square"]]
