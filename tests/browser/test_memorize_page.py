"""The Memorise tab as a person meets it: drop pictures, read, type, press one button, watch, search.

Each page is a visitor of its own, so that no test sees what another has left.
"""

import contextlib
import os
import re
import secrets
import signal
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from gcr_core.files.locks import is_locked
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.ui import hosting
from gcr_core.ui.auth import COOKIE
from tests import serving, tiny
from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_search_page import assert_on_screen, contrast, open_options
from tests.mixed import as_tar

PHONE = 390
COLOURS = ("red", "green", "blue", "gold", "purple", "black")
OWN, SHIPPED = re.compile(r"^picture/[\w-]{12}/"), re.compile("^picture/shipped/")
HOSTILE = "<img src=x onerror=alert(1)> ${1+1} {{value}} `"
LATE_CLOSE = """
const fetched = fetch, held = (window.held = []);
let owed = 0;
const later = () => new Promise((resolve) => setTimeout(resolve, 200));
window.fetch = async (asked, options) => {
  const address = String(asked.url ?? asked), asks = address.includes("/queue/join");
  if (asks) owed++;
  const answer = await fetched(asked, options);
  if (asks) {
    const crossed = held.splice(0);
    later().then(() => crossed.forEach((release) => release()));
  }
  if (!address.includes("/queue/data")) return answer;
  const late = new TransformStream({
    async transform(text, controller) {
      const end = text.indexOf('data: {"msg":"close_stream"');
      owed -= text.split('"msg":"process_completed"').length - 1;
      controller.enqueue(end < 0 ? text : text.slice(0, end));
      if (end < 0) return;
      await (owed ? later() : new Promise((release) => held.push(release)));
      controller.enqueue(text.slice(end));
    },
  });
  const texts = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(late);
  return new Response(texts.pipeThrough(new TextEncoderStream()), answer);
};
"""
"""The word that no more answers come is held until the page has asked again, and reaches it after that question has
reached the server: at once where a question is on its way already."""


@pytest.fixture(scope="module")
def models(tiny_clip_dir, tmp_path_factory):
    return {"backbone": tiny.save_llava(tmp_path_factory.mktemp("models") / "llava"), "clip": tiny_clip_dir}


@pytest.fixture(scope="module")
def shared(tiny_memory_dir, models, tmp_path_factory):
    """(address, home) of an app whose visitors are strangers to each other."""
    folder = tmp_path_factory.mktemp("shared")
    with serving.serve(tiny_memory_dir, folder / "app.log", visitors=1, **models) as address:
        yield address, folder / "home"


@pytest.fixture
def desk(open_page, shared):
    return open_desk(open_page, shared[0])


@pytest.fixture
def cameras(tmp_path):
    """Twelve pictures named as a camera names them."""
    for number in range(12):
        image = Image.new("RGB", (60, 40), "white")
        shape = ImageDraw.Draw(image).ellipse if number % 2 else ImageDraw.Draw(image).rectangle
        shape((10, 5, 50, 35), COLOURS[number // 2])
        image.save(tmp_path / f"IMG_{number + 1:04}.jpg")
    return sorted(tmp_path.glob("*.jpg"))


def open_desk(open_page, address, **options):
    page = open_page(f"{address}#tab=memorise", **options)
    expect(page.get_by_text("Drop pictures")).to_be_visible()
    return page


def drop(page, paths):
    page.locator("#prepare input[multiple]").first.set_input_files(paths)
    expect(page.locator(".taken")).to_be_visible()


def drop_folder(page, folder):
    page.locator("#prepare input[webkitdirectory]").set_input_files(folder)
    expect(page.locator(".taken")).to_be_visible()


def memorise(page, preset="Quick", name="Shapes"):
    page.get_by_label(preset).check()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Memorise", exact=True).click()
    expect(page.locator(".job")).to_be_visible()


def captions(page, name):
    return page.get_by_label(f"Captions of {name}", exact=False)


def trainer(home):
    """The process id of the one job below a home folder that runs."""
    return next(int(path.read_text()) for path in home.glob("*/**/jobs/*/lock") if is_locked(path))


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def card(page, name):
    """A memory's card."""
    return page.get_by_role("listitem", name=name, exact=True)


def menu(page, what, name="My shapes", role="button"):
    """What can be done with a memory, in the menu on its card, which this opens."""
    card(page, name).locator(".menu summary").click()
    return card(page, name).get_by_role(role, name=what, exact=True)


def rename(page, before, after):
    menu(page, "Rename", before).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(after)
    dialog.get_by_role("button", name="Rename").click()


def delete(page, name):
    menu(page, "Delete", name).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()


def second_tab(page):
    """Another tab of the same visitor's."""
    other = page.context.new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(page.url)
    expect(other.locator("#prepare .drop")).to_be_visible()
    return other


@pytest.fixture
def described(open_page, shared, cameras):
    """The desk of a visitor with twelve pictures, for the first of which the model wrote two captions."""
    secret = secrets.token_urlsafe(32)
    _, gallery = Workspace.of(shared[1], secret, Settings()).collect(cameras)
    gallery = gallery.with_pseudo_queries({0: ["a red thing", "a field"]})
    gallery.with_captions(gallery.captions)
    cookie = {"name": COOKIE, "value": secret, "domain": "127.0.0.1", "path": "/"}
    page = open_page(f"{shared[0]}#tab=memorise", storage_state={"cookies": [cookie]})
    expect(page.locator(".taken")).to_be_visible()
    return page


@contextlib.contextmanager
def held_edits(page):
    """Holds what the page sends of what is typed until the block has ended."""
    held, over = [], False
    page.route("**/edit", lambda route: route.continue_() if over else held.append(route))
    yield
    over = True
    for route in held:
        route.continue_()


@pytest.fixture
def shapes(open_shapes, shared):
    return open_shapes(*shared)


def test_pictures_are_dropped_memorised_and_searched(desk, tiny_gallery):
    drop_folder(desk, tiny_gallery.root)
    expect(desk.locator(".taken")).to_have_text("12 pictures.")
    expect(captions(desk, "red-circle.png")).to_have_value("a red circle\ncircle in red")
    expect(desk.locator(".preset i").first).to_have_text(re.compile("about .+(s|min|h)"))
    memorise(desk, name=HOSTILE)
    expect(desk.get_by_role("status").filter(has_text="is memorised.")).to_be_visible()
    expect(desk.locator(".job")).to_have_count(0)
    memory = card(desk, HOSTILE)
    expect(memory).to_contain_text("12 pictures")
    expect(memory.get_by_role("row", name="its own picture")).to_contain_text("%")
    expect(memory.locator(".report")).to_contain_text("no caption is kept out of training")
    desk.evaluate("scrollTo(0, 100)")
    button(desk, "Search it").click()
    expect(desk.locator("#mosaic img").first).to_have_attribute("src", OWN)
    expect(desk.locator("#state")).to_contain_text("ready: 12 images")
    expect(desk.locator("#notice .notice")).to_have_count(0)
    desk.wait_for_function("scrollY === 0")
    expect(desk.get_by_role("combobox", name="Memory")).to_have_value(re.compile(r"[\w-]{12}"))
    desk.get_by_role("textbox", name="Query").fill("a red circle")
    desk.get_by_role("textbox", name="Query").press("Enter")
    cards = desk.get_by_role("region", name="Recalled from memory").get_by_role("listitem")
    expect(cards).to_have_count(10)
    expect(cards.first.locator(".said")).to_contain_text("the model says")


def test_another_memory_clears_the_answers_at_once_and_keeps_what_is_typed_next(desk, tiny_gallery):
    drop_folder(desk, tiny_gallery.root)
    memorise(desk)
    button(desk, "Search it").click()
    expect(desk.locator("#mosaic img").first).to_have_attribute("src", OWN)
    query, memory = desk.get_by_role("textbox", name="Query"), desk.get_by_role("combobox", name="Memory")
    query.fill("a red circle")
    query.press("Enter")
    cards = desk.locator("#results").get_by_role("listitem")
    expect(cards.first.locator(".said")).to_contain_text("the model says")
    memory.select_option(label="The memory of this page")
    expect(cards).to_have_count(0)
    query.fill("a blue square")
    expect(desk.locator("#mosaic img").first).to_have_attribute("src", SHIPPED)
    expect(query).to_have_value("a blue square")


def test_twelve_camera_names_say_before_training_what_to_do_and_what_will_be_found(desk, cameras):
    drop(desk, cameras)
    expect(desk.locator("#notes")).to_contain_text("12 of 12 images have no caption, and need none")
    expect(button(desk, "Memorise")).to_be_enabled()
    for path, words in zip(cameras[:5], COLOURS, strict=False):
        captions(desk, path.name).fill(f"something {words}")
        captions(desk, path.name).press("Tab")
    expect(desk.locator("#notes")).to_contain_text("7 of 12 images have no caption")
    desk.get_by_label("only pictures without").check()
    expect(desk.locator("#captions li")).to_have_count(7)
    memorise(desk)
    expect(desk.locator(".report")).to_contain_text("7 of 12 images have no caption")
    expect(desk.locator(".job")).to_have_count(0)


def test_who_types_no_captions_skips_them(desk, cameras):
    drop(desk, cameras)
    button(desk, "Skip to training").click()
    expect(desk.get_by_label("Balanced")).to_be_focused()
    expect(button(desk, "Memorise")).to_be_in_viewport()


def test_an_answer_comes_where_the_question_crosses_the_word_that_no_more_answers_come(open_page, shared, cameras):
    page = open_desk(open_page, shared[0], script=LATE_CLOSE)
    drop(page, cameras)
    for bare, path in reversed(list(enumerate(cameras[:3], len(cameras) - 3))):
        page.wait_for_function("held.length")
        captions(page, path.name).fill("something in colour")
        captions(page, path.name).press("Tab")
        expect(page.locator("#notes")).to_contain_text(f"{bare} of 12 images have no caption")


def test_the_model_writes_captions_a_person_corrects_one_and_the_report_tells_them_apart(
    open_page, tiny_memory_dir, models, cameras, tmp_path
):
    able = models | {"backbone": tiny.save_idefics3(tmp_path / "idefics3")}
    with serving.serve(tiny_memory_dir, tmp_path / "app.log", **able) as address:
        page = open_desk(open_page, address)
        drop(page, cameras)
        button(page, "Let the model write captions").click()
        expect(button(page, "Stop writing")).to_be_visible()
        page.reload()
        expect(page.get_by_role("status").filter(has_text="The captions are written")).to_be_visible()
        expect(page.locator("#captions .written")).to_have_count(12)
        models_own = page.get_by_label("Captions of IMG_0001.jpg written by the model", exact=False)
        lines = models_own.input_value().splitlines()
        models_own.fill("\n".join(["a red rectangle", *lines[1:]]))
        models_own.press("Tab")
        expect(page.get_by_label("Captions of IMG_0001.jpg, one a line")).to_have_value("a red rectangle")
        expect(page.locator("#notes")).to_contain_text("11 of 12 images have only the model’s own words")
        page.reload()
        expect(page.get_by_label("Captions of IMG_0001.jpg, one a line")).to_have_value("a red rectangle")
        expect(models_own).to_have_value("\n".join(lines[1:]))
        memorise(page)
        expect(page.locator(".report").get_by_role("row", name="captions the model wrote")).to_contain_text("%")
        expect(page.locator(".report")).to_contain_text("11 of 12 images have only the model’s own words")


def test_what_was_merged_and_skipped_is_listed_file_by_file_and_nothing_in_a_name_runs(desk, tmp_path):
    for name in ("a red square.png", "its double.png"):
        Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    Image.new("RGB", (40, 40), "blue").save(tmp_path / "<img src=x onerror=alert(1)>.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    drop(desk, sorted(tmp_path.glob("*.*g")))
    expect(desk.locator(".taken")).to_have_text("2 pictures, 1 double merged, 1 file left out.")
    desk.get_by_text("Which files").click()
    expect(desk.locator(".files li").filter(has_text="its double.png")).to_contain_text("has the same pixels as")
    expect(desk.locator(".files li").filter(has_text="broken.jpg")).to_contain_text(":")
    expect(desk.locator("#captions").get_by_text("<img src=x onerror=alert(1)>.png")).to_be_visible()
    captions(desk, "a red square.png").fill(f"{HOSTILE}\nsecond line")
    captions(desk, "a red square.png").press("Tab")
    desk.reload()
    expect(captions(desk, "a red square.png")).to_have_value(f"{HOSTILE}\nsecond line")


@pytest.mark.parametrize("left", [True, False], ids=["left", "still being typed in"])
def test_a_caption_is_there_after_a_reload_at_once(desk, cameras, left):
    drop(desk, cameras)
    field = captions(desk, cameras[0].name)
    field.fill("something red\nan oblong")
    if left:
        field.press("Tab")
    desk.reload()
    expect(field).to_have_value("something red\nan oblong")
    expect(desk.locator("#notes")).to_contain_text("11 of 12 images have no caption")
    expect(desk.locator(".preset i").first).to_have_text(re.compile("about .+(s|min|h)"))
    expect(button(desk, "Memorise")).to_be_enabled()


def test_name_preset_identifier_type_and_seed_are_there_after_a_reload_at_once(desk, cameras):
    drop(desk, cameras)
    desk.get_by_text("Advanced").click()
    desk.get_by_label("Identifier of a picture").select_option("numeric")
    desk.get_by_label("Seed").fill("7")
    desk.get_by_label("Thorough").check()
    desk.get_by_label("Name", exact=True).fill(HOSTILE)
    desk.reload()
    expect(desk.get_by_label("Name", exact=True)).to_have_value(HOSTILE)
    expect(desk.get_by_label("Thorough")).to_be_checked()
    expect(desk.get_by_label("Identifier of a picture")).to_have_value("numeric")
    expect(desk.get_by_label("Seed")).to_have_value("7")


def test_what_a_page_had_no_answer_to_is_sent_again_by_the_next_before_it_asks_what_there_is(desk, cameras):
    drop(desk, cameras)
    field, address = captions(desk, cameras[0].name), desk.url
    desk.route("**/edit", lambda route: route.abort())
    with desk.expect_request("**/edit"):
        field.fill("something red")
        field.press("Tab")
    desk.goto("about:blank")
    desk.unroute("**/edit")
    desk.goto(address)
    expect(field).to_have_value("something red")
    expect(desk.locator("#notes")).to_contain_text("11 of 12 images have no caption")


def test_what_is_done_next_waits_until_what_was_typed_is_kept(desk, cameras):
    drop(desk, cameras)
    with held_edits(desk):
        with desk.expect_request("**/edit"):
            captions(desk, cameras[0].name).fill("something red")
            captions(desk, cameras[0].name).press("Tab")
        desk.get_by_label("only pictures without").check()
    expect(desk.locator("#captions li")).to_have_count(11)


def test_a_corrected_line_goes_above_what_is_being_typed_and_neither_is_lost(described):
    own = described.get_by_label("Captions of IMG_0001.jpg, one a line")
    models_own = described.get_by_label("Captions of IMG_0001.jpg written by the model", exact=False)
    with held_edits(described), described.expect_request("**/edit"):
        models_own.fill("a red rectangle\na field")
        own.click()
        own.press_sequentially("mine")
    expect(own).to_have_value("a red rectangle\nmine")
    expect(models_own).to_have_value("a field")
    own.press_sequentially(" too")
    described.reload()
    expect(own).to_have_value("a red rectangle\nmine too")
    expect(models_own).to_have_value("a field")


def test_both_fields_of_a_picture_changed_one_after_the_other_are_kept(described):
    own = described.get_by_label("Captions of IMG_0001.jpg, one a line")
    models_own = described.get_by_label("Captions of IMG_0001.jpg written by the model", exact=False)
    models_own.fill("a red rectangle\na field")
    own.fill("mine")
    described.reload()
    expect(own).to_have_value("mine\na red rectangle")
    expect(models_own).to_have_value("a field")


def test_what_is_being_typed_stays_with_its_picture_when_the_rows_move(desk, cameras, tmp_path):
    drop(desk, cameras)
    desk.get_by_label("only pictures without").check()
    first, second = (captions(desk, path.name) for path in cameras[:2])
    first.fill("something red")
    second.fill("something")
    other = desk.context.new_page()
    other.goto(desk.url)
    expect(other.locator(".taken")).to_be_visible()
    Image.new("RGB", (60, 40), "orange").save(tmp_path / "IMG_0099.png")
    drop(other, [tmp_path / "IMG_0099.png"])
    expect(captions(desk, "IMG_0099.png")).to_be_visible()
    other.close()
    expect(first).to_have_count(0)
    expect(second).to_be_focused()
    desk.keyboard.type(" else")
    expect(second).to_have_value("something else")
    desk.reload()
    expect(first).to_have_value("something red")
    expect(second).to_have_value("something else")
    expect(captions(desk, cameras[2].name)).to_have_value("")


@pytest.mark.parametrize("left", [True, False], ids=["left", "still being typed in"])
def test_too_long_a_caption_is_said_and_stands_there_until_it_is_shortened(desk, cameras, left):
    drop(desk, cameras)
    field = captions(desk, cameras[0].name)
    field.fill("x" * 1_001)
    if left:
        field.press("Tab")
    else:
        desk.reload()
    expect(desk.get_by_role("alert")).to_have_text(
        "IMG_0001.jpg has a caption of 1,001 characters, the limit is 1,000: shorten it"
    )
    expect(field).to_have_value("x" * 1_001 if left else "")
    field.fill("something red")
    field.press("Tab")
    expect(desk.get_by_role("alert")).to_have_count(0)
    expect(desk.locator("#notes")).to_contain_text("11 of 12 images have no caption")


def test_a_job_is_stopped_found_again_after_a_reload_and_resumed(desk, shared, tiny_gallery):
    drop_folder(desk, tiny_gallery.root)
    memorise(desk, "Thorough")
    expect(desk.locator(".job .facts")).to_contain_text(re.compile(r"step [\d,]+ of [\d,]+"))
    expect(desk.locator(".job .curve svg")).to_be_visible()
    desk.reload()
    expect(desk.locator(".job .badge")).to_have_text("memorising")
    second = desk.context.new_page()
    second.goto(desk.url)
    expect(second.locator(".job .badge")).to_have_text("memorising")
    button(desk, "Stop").click()
    expect(desk.locator(".job .badge")).to_have_text("stopped")
    expect(second.locator(".job .badge")).to_have_text("stopped")
    expect(second.locator(".job .why")).to_contain_text("Resume")
    button(second, "Resume").click()
    expect(second.locator(".job.running").or_(second.locator(".memories > li"))).to_be_visible()
    serving.end_trainings(shared[1])  # the next test's would wait for it


def test_a_killed_trainer_is_said_in_words_and_resumed(desk, shared, tiny_gallery):
    drop_folder(desk, tiny_gallery.root)
    memorise(desk, "Balanced")
    expect(desk.locator(".job .facts")).to_contain_text("step")
    os.kill(trainer(shared[1]), signal.SIGKILL)
    expect(desk.locator(".job .badge")).to_have_text("interrupted")
    expect(desk.locator(".job .why")).to_contain_text("killed")
    button(desk, "Resume").click()
    expect(desk.locator(".job.running").or_(desk.locator(".memories > li"))).to_be_visible()
    serving.end_trainings(shared[1])


def test_a_killed_server_finds_the_job_again(open_page, tiny_memory_dir, tiny_gallery, models, tmp_path):
    log, port = tmp_path / "app.log", serving.free_port()
    server = serving.start(tiny_memory_dir, log, port, **models)
    try:
        address = serving.await_page(server, log, port)
        page = open_desk(open_page, address)
        drop_folder(page, tiny_gallery.root)
        memorise(page, "Balanced")
        expect(page.locator(".job .facts")).to_contain_text("step")
        server.kill()
        server.wait()
        page.close()
        server = serving.start(tiny_memory_dir, log, port, **models)
        serving.await_page(server, log, port)
        page = open_page(f"{address}#tab=memorise")
        expect(card(page, "Shapes")).to_be_visible()
        expect(page.locator(".job")).to_have_count(0)
    finally:
        server.terminate()
        server.wait()
        serving.end_trainings(tmp_path / "home")


def test_two_browsers_at_once_see_their_own_only(open_page, shared, cameras, tmp_path):
    one, other = (open_desk(open_page, shared[0]) for _ in range(2))
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "teal.png")
    drop(one, [tmp_path / "teal.png"])
    drop(other, cameras)
    for page in (one, other):
        page.reload()
    expect(one.locator(".taken")).to_have_text("1 picture.")
    expect(other.locator(".taken")).to_have_text("12 pictures.")
    source = one.locator("#captions img").get_attribute("src")
    for page, status in ((one, 200), (other, 404)):
        assert page.request.get(shared[0] + source).status == status


def test_a_memory_is_renamed_downloaded_deleted_and_opened_twice_and_told_apart(shapes, tmp_path):
    rename(shapes, "My shapes", "Forms")
    memory = card(shapes, "Forms")
    expect(memory).to_be_visible()
    with shapes.expect_download() as download:
        menu(shapes, "Download", "Forms", "link").click()
    archive = tmp_path / Path(download.value.suggested_filename).name
    download.value.save_as(archive)
    assert archive.name == "Forms.zip"
    menu(shapes, "Delete", "Forms").click()
    shapes.get_by_role("button", name="Cancel").click()
    expect(memory).to_be_visible()
    delete(shapes, "Forms")
    expect(memory).to_have_count(0)
    for name in ("Forms", "Forms (2)"):
        shapes.locator("#shelf input[type=file]").set_input_files(archive)
        expect(card(shapes, name)).to_be_visible()
    expect(shapes.locator(".memories > li")).to_have_count(2)
    expect(shapes.get_by_role("combobox", name="Memory", include_hidden=True)).to_contain_text("Forms (2)")


def test_the_menu_of_a_card_is_opened_and_closed_by_keyboard(shapes):
    summary, download = card(shapes, "My shapes").locator(".menu summary"), shapes.get_by_role("link", name="Download")
    button(shapes, "Search it").focus()
    shapes.keyboard.press("Tab")
    expect(summary).to_be_focused()
    shapes.keyboard.press("Enter")
    expect(download).to_be_visible()
    shapes.keyboard.press("Tab")
    expect(button(shapes, "Add pictures")).to_be_focused()
    shapes.keyboard.press("Escape")
    expect(download).to_be_hidden()
    expect(summary).to_be_focused()
    summary.click()
    expect(download).to_be_visible()
    shapes.get_by_role("heading", name="Your memories").click()
    expect(download).to_be_hidden()


def test_a_new_name_is_there_after_a_reload_at_once(shapes):
    rename(shapes, "My shapes", "Forms")
    shapes.reload()
    expect(card(shapes, "Forms")).to_be_visible()


def test_two_tabs_see_a_rename_a_delete_and_a_finished_training(shapes, tiny_gallery):
    other = second_tab(shapes)
    rename(shapes, "My shapes", "Forms")
    expect(card(other, "Forms")).to_be_visible()
    expect(other.get_by_role("combobox", name="Memory", include_hidden=True)).to_contain_text("Forms (12)")
    drop_folder(other, tiny_gallery.root)
    expect(shapes.locator(".taken")).to_have_text("12 pictures.")
    memorise(other, name="Newer")
    for page in (shapes, other):
        expect(page.locator(".job").or_(card(page, "Newer"))).to_be_visible()
        expect(card(page, "Newer")).to_be_visible()
        expect(page.get_by_role("status").filter(has_text="“Newer” is memorised")).to_be_visible()
        expect(page.locator(".job")).to_have_count(0)
        expect(page.locator(".taken")).to_have_count(0)
    delete(other, "Forms")
    expect(card(shapes, "Forms")).to_have_count(0)
    expect(shapes.get_by_role("combobox", name="Memory", include_hidden=True)).not_to_contain_text("Forms")


def test_a_picture_is_added_recalled_forgotten_and_the_memory_consolidated(shapes, tmp_path):
    Image.new("RGB", (48, 48), "purple").save(tmp_path / "purple.png")
    other = second_tab(shapes)
    menu(shapes, "Add pictures").click()
    dialog = shapes.get_by_role("dialog")
    dialog.get_by_label("Pictures").set_input_files(tmp_path / "purple.png")
    dialog.get_by_label("Captions").fill("something purple")
    dialog.get_by_role("button", name="Add").click()
    for page in (shapes, other):
        expect(page.get_by_role("status").filter(has_text="Added purple.png in")).to_be_visible()
        expect(page.locator(".memories")).to_contain_text("13 pictures")
    other.close()
    expect(shapes.locator(".memories")).to_contain_text("1 picture added since it was trained")
    button(shapes, "Search it").click()
    expect(shapes.locator("#state")).to_contain_text("13 images")
    box = shapes.get_by_role("textbox", name="Query")
    open_options(shapes)
    shapes.get_by_label("Results on each side").fill("100")
    shapes.get_by_label("Beams").fill("100")
    shapes.get_by_label("Beams").press("Tab")
    box.fill("something purple")
    box.press("Enter")
    forget = shapes.get_by_role("region", name="Recalled from memory").get_by_role("button", name="Forget a red circle")
    expect(forget).to_be_attached()
    forget.focus()
    forget.press("Enter")
    expect(forget).to_have_count(0)
    expect(shapes.locator(".card .name", has_text="something purple").first).to_be_visible()
    expect(shapes.locator("#state")).to_contain_text("12 images")
    chosen = shapes.get_by_role("combobox", name="Memory").input_value()
    shapes.reload()
    expect(shapes.get_by_role("combobox", name="Memory")).to_have_value(chosen)
    shapes.get_by_role("tab", name="Memorise").click()
    expect(shapes.locator(".memories")).to_contain_text("1 picture added and 1 picture forgotten since it was trained")
    button(shapes, "Consolidate").click()
    expect(shapes.get_by_role("status").filter(has_text="Consolidated")).to_be_visible()
    expect(shapes.locator(".memories")).not_to_contain_text("since it was trained")


def test_a_dialog_is_about_the_memory_that_it_names_even_when_the_shelf_changes_below_it(shapes, tiny_gallery):
    drop_folder(shapes, tiny_gallery.root)
    memorise(shapes, name="Newer")
    menu(shapes, "Delete").click()
    expect(shapes.get_by_role("listitem", name="Newer", include_hidden=True)).to_have_count(1)
    shapes.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(shapes.get_by_role("listitem", name="My shapes")).to_have_count(0)
    expect(shapes.get_by_role("listitem", name="Newer")).to_be_visible()


def test_when_the_chosen_memory_is_deleted_the_shipped_one_answers(shapes):
    button(shapes, "Search it").click()
    expect(shapes.locator("#mosaic img").first).to_have_attribute("src", OWN)
    shapes.get_by_role("tab", name="Memorise").click()
    delete(shapes, "My shapes")
    expect(button(shapes, "Search it")).to_have_count(0)
    shapes.get_by_role("tab", name="Search").click()
    shapes.get_by_role("textbox", name="Query").fill("a dog")
    shapes.get_by_role("textbox", name="Query").press("Enter")
    expect(shapes.locator(".card").first).to_be_visible()


def test_of_pictures_added_together_the_damaged_are_left_out(shapes, tmp_path):
    Image.new("RGB", (2000, 1500), "purple").save(tmp_path / "purple.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "purple.png").read_bytes()[:500])
    for said in ("Added purple.png", "There already: purple.png"):
        menu(shapes, "Add pictures").click()
        dialog = shapes.get_by_role("dialog")
        dialog.get_by_label("Pictures").set_input_files([tmp_path / "purple.png", tmp_path / "torn.png"])
        dialog.get_by_label("Captions").fill("something purple")
        dialog.get_by_role("button", name="Add").click()
        told = shapes.get_by_role("status").filter(has_text="Left out: torn.png")
        expect(told.filter(has_text=said)).to_be_visible()
        expect(shapes.locator(".memories")).to_contain_text("13 pictures · 25 captions")


def name_of(number):
    return f"IMG_{number:04}.jpg"


def test_a_second_batch_comes_in_and_captions_stay(desk, cameras):
    drop(desk, cameras[:8])
    captions(desk, cameras[0].name).fill("something red")
    desk.locator("#prepare input[multiple]").first.set_input_files(cameras[6:])
    expect(desk.locator(".last-batch")).to_have_text("Last drop: 4 pictures added, 2 there already.")
    expect(desk.locator(".taken")).to_contain_text("12 pictures")
    expect(captions(desk, cameras[0].name)).to_have_value("something red")
    expect(captions(desk, cameras[11].name)).to_be_visible()
    desk.reload()
    expect(desk.locator(".last-batch")).to_have_text("Last drop: 4 pictures added, 2 there already.")
    expect(captions(desk, cameras[0].name)).to_have_value("something red")
    expect(desk.locator("#notes")).to_contain_text("11 of 12 images have no caption")


def test_pictures_are_removed_and_put_back_and_no_caption_changes_its_picture(desk, cameras):
    drop(desk, cameras[:4])
    captions(desk, name_of(3)).fill("something green")
    with held_edits(desk), desk.expect_request("**/edit"):
        button(desk, f"Remove {name_of(2)}").click()
        captions(desk, name_of(4)).fill("typed meanwhile")
    expect(captions(desk, name_of(2))).to_have_count(0)
    expect(desk.locator(".out-again")).to_contain_text("1 picture removed")
    expect(captions(desk, name_of(3))).to_have_value("something green")
    expect(captions(desk, name_of(4))).to_have_value("typed meanwhile")
    expect(captions(desk, name_of(1))).to_have_value("")
    desk.reload()
    expect(captions(desk, name_of(4))).to_have_value("typed meanwhile")
    expect(desk.locator("#captions img").nth(1)).to_have_js_property("complete", True)
    button(desk, "Put it back").click()
    expect(captions(desk, name_of(2))).to_have_value("")
    expect(captions(desk, name_of(3))).to_have_value("something green")
    expect(desk.locator(".out-again")).to_have_count(0)


def test_what_is_typed_for_a_picture_that_another_tab_removes_comes_back_with_it(desk, cameras):
    drop(desk, cameras[:4])
    other = second_tab(desk)
    captions(desk, name_of(2)).focus()
    desk.keyboard.type("something re")
    captions(other, name_of(3)).focus()
    other.keyboard.type("something gre")
    button(desk, f"Remove {name_of(1)}").click()
    expect(captions(other, name_of(1))).to_have_count(0)
    expect(captions(other, name_of(3))).to_be_focused()
    other.keyboard.type("en")
    button(desk, f"Remove {name_of(3)}").click()
    expect(captions(other, name_of(3))).to_have_count(0)
    button(desk, "Put them back").click()
    for page in (desk, other):
        expect(captions(page, name_of(3))).to_have_value("something green")
        expect(captions(page, name_of(2))).to_have_value("something re")


def test_a_caption_is_given_to_the_selected_on_all_pages_and_taken_off_them(desk, cameras, tmp_path):
    for number in range(13, 16):
        Image.new("RGB", (60, 40), (10 * number, 90, 10)).save(tmp_path / name_of(number))
    drop(desk, sorted(tmp_path.glob("*.jpg")))
    typed = captions(desk, name_of(1))
    typed.fill("something red")
    chosen = desk.get_by_role("group", name="The selected pictures")
    expect(chosen).to_be_hidden()
    desk.get_by_label(f"Select {name_of(1)}").check()
    desk.get_by_label(f"Select {name_of(3)}").click(modifiers=["Shift"])
    expect(chosen).to_contain_text("3 selected")
    desk.get_by_label(f"Select {name_of(2)}").uncheck()
    caption = desk.get_by_label("A caption for all the selected pictures")
    caption.fill("a shape")
    caption.press("Enter")
    expect(typed).to_have_value("something red\na shape")
    expect(captions(desk, name_of(2))).to_have_value("")
    expect(captions(desk, name_of(3))).to_have_value("a shape")
    expect(caption).to_have_value("")
    expect(caption).to_be_focused()
    button(desk, "Select all 15").click()
    desk.get_by_label(f"Select {name_of(4)}").uncheck()
    button(desk, "Next pictures").first.click()
    expect(chosen).to_contain_text("14 selected")
    expect(desk.get_by_label(f"Select {name_of(15)}")).to_be_checked()
    caption.fill("on white")
    button(desk, "Add it to them").click()
    expect(captions(desk, name_of(15))).to_have_value("on white")
    caption.fill("a shape")
    button(desk, "Take it off them").click()
    button(desk, "Previous pictures").first.click()
    expect(typed).to_have_value("something red\non white")
    expect(captions(desk, name_of(4))).to_have_value("")
    button(desk, "Select none").click()
    expect(chosen).to_be_hidden()
    desk.get_by_label(f"Select {name_of(5)}").check()
    button(desk, "Remove them").click()
    expect(desk.locator(".out-again")).to_contain_text("1 picture removed")
    expect(desk.locator(".taken")).to_contain_text("14 pictures")
    expect(chosen).to_be_hidden()


def test_pages_of_captions_are_turned_from_below_the_rows_too_and_read_from_their_top(desk, cameras, tmp_path):
    for number in range(13, 40):
        Image.new("RGB", (60, 40), (6 * number, 90, 10)).save(tmp_path / name_of(number))
    drop(desk, sorted(tmp_path.glob("*.jpg")))
    below = desk.get_by_role("navigation", name="Pages of the captions, below")
    expect(below).to_contain_text("1 to 12 of 39")
    for number in (13, 25):
        below.get_by_role("button", name="Next pictures").click()
        expect(captions(desk, name_of(number))).to_be_in_viewport()
        next_above = desk.get_by_role("navigation", name="Pages of the captions, above").get_by_label("Next pictures")
        expect(next_above).to_be_focused()
    next_above.press("Enter")
    expect(captions(desk, name_of(37))).to_be_visible()
    expect(desk.get_by_role("button", name="Previous pictures").first).to_be_focused()


def test_an_answer_for_the_page_of_captions_before_does_not_turn_back(desk, cameras, tmp_path):
    for number in range(13, 16):
        Image.new("RGB", (60, 40), (10 * number, 90, 10)).save(tmp_path / name_of(number))
    drop(desk, sorted(tmp_path.glob("*.jpg")))
    button(desk, "Next pictures").first.click()
    expect(captions(desk, name_of(15))).to_be_visible()
    late = desk.evaluate("({ do: 'caption_chosen', ...document.querySelector('.chosen').dataset })")
    assert late["page"] == "1"
    button(desk, "Previous pictures").first.click()
    expect(captions(desk, name_of(1))).to_be_visible()
    desk.evaluate(
        """() => new MutationObserver(() => (window.pages = [...(window.pages ?? []), desk.place.page])).observe(
            document.querySelector("#captions"), { childList: true, subtree: true })"""
    )
    desk.evaluate("late => gcr.sends.captions(late)", late)
    desk.wait_for_function("window.pages?.length > 1")
    expect(captions(desk, name_of(1))).to_be_visible()
    expect(captions(desk, name_of(15))).to_have_count(0)


def test_what_a_space_without_a_volume_says_once_stays_dismissed(desk, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "me/my-space")
    monkeypatch.setattr(hosting, "_disk", lambda folder: 1)
    said = hosting.notices(Settings(home=Path("/home/user/gcr")))
    line = desk.get_by_text("lost when this Space restarts")
    for dismissed in (False, True):
        desk.evaluate("said => document.querySelector('#tabs').insertAdjacentHTML('beforebegin', said)", said)
        desk.wait_for_function("desk.once() || true")
        expect(line).to_be_visible(visible=not dismissed)
        if not dismissed:
            line.locator("..").get_by_role("button", name="Dismiss").click()
            expect(line).to_be_hidden()
            desk.reload()
            expect(desk.locator("#prepare .drop")).to_be_visible()


def test_a_tar_is_taken_as_a_folder_is(desk, cameras, tmp_path_factory):
    archive = as_tar(tmp_path_factory.mktemp("archive") / "photos.tar.gz", cameras[0].parent, ".")
    drop(desk, [archive])
    expect(desk.locator(".taken")).to_have_text("12 pictures.")
    expect(captions(desk, name_of(12))).to_be_visible()


def test_an_album_stands_in_the_rows_of_its_pictures(desk, cameras, tmp_path):
    folder = tmp_path / "all"
    for number, path in enumerate(cameras[:4]):
        target = folder / ("sea" if number < 2 else "hills") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    drop_folder(desk, folder)
    expect(desk.locator(".taken")).to_have_text("4 pictures in 2 albums.")
    expect(desk.locator("#captions li").filter(has_text=name_of(1)).locator(".album")).to_contain_text("sea")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_reaches_past_the_screen_and_text_can_be_read(open_page, shared, cameras, scheme):
    page = open_desk(open_page, shared[0], width=PHONE, height=844, color_scheme=scheme)
    drop(page, cameras)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert_on_screen(page.locator(".panel, .note, #captions li, .preset, .go, .drop"), PHONE)
    page.get_by_text("Advanced").click()
    for selector in (".step-of", ".taken", ".note", "#captions p", "textarea", ".preset b", ".preset span", ".hint"):
        assert contrast(page, f"#desk {selector}") >= 4.5, selector


def test_a_mistake_is_said_at_the_foot_and_can_be_dismissed(desk, tmp_path):
    archive = tmp_path / "not a memory.zip"
    archive.write_text("no zip at all")
    desk.locator("#shelf input[type=file]").set_input_files(archive)
    expect(desk.get_by_role("alert")).to_contain_text("zip")
    button(desk, "Dismiss").click()
    expect(desk.get_by_role("alert")).to_have_count(0)
