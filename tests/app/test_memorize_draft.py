"""A draft: its import outlives a reload, the model's captions are written, corrected, stopped and begun again."""

import contextlib
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError, HubError, InputError
from gcr_core.serving.caption_writer import Writing
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.training.config import PRESET_WORDS
from gcr_core.ui import uploads
from gcr_core.ui.auth import Visitors
from gcr_core.ui.memorize_draft import Draft
from gcr_core.ui.registry import Registry
from tests import tiny
from tests.patience import until

PICTURES = 34


@pytest.fixture(scope="module")
def models(tiny_clip_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    able, cannot = tiny.save_idefics3(folder / "idefics3"), tiny.save_llava(folder / "llava")
    return SimpleNamespace(able=str(able), cannot=str(cannot), clip=str(tiny_clip_dir))


@pytest.fixture
def settings(models, tmp_path):
    return Settings(home=tmp_path / "home", backbone=models.able, clip=models.clip)


@pytest.fixture
def draft(settings):
    return made(settings)


def made(settings):
    with gr.Blocks():
        registry = Registry(None, None, Visitors(settings))
        return Draft(registry, SimpleNamespace(list=lambda shelf: []), {})


@pytest.fixture
def cameras(tmp_path):
    """Pictures named as a camera names them."""
    for number in range(PICTURES):
        Image.new("RGB", (16, 16), (7 * number, 0, 255 - 7 * number)).save(tmp_path / f"IMG_{number:04}.png")
    return sorted(tmp_path.glob("*.png"))


def shelf(draft):
    return draft.registry.visitors.workspace(None)


def import_(draft, paths):
    id, gallery = shelf(draft).collect(paths)
    return id, gallery.root


def choose(draft, id, which, value):
    draft.choose(None, {"gallery": id, "which": which, "value": value})


def finished(draft, folder):
    """How the writing for a gallery ended."""
    until(lambda: draft.caption_writer.of(folder) is None)
    return draft.ended(shelf(draft))


def test_an_import_goes_on_through_a_reload_and_shows_how_far_it_is(draft, cameras, monkeypatch):
    go_on, collect = threading.Event(), Workspace.collect

    def slow(self, sources, on_progress):
        on_progress(3, PICTURES)
        go_on.wait()
        return collect(self, sources, on_progress)

    monkeypatch.setattr(Workspace, "collect", slow)
    monkeypatch.setattr(uploads, "laid_out", lambda files, most: contextlib.nullcontext(cameras))
    next(draft.take_in(None, []))
    until(lambda: "Taking in 3 of 34 files" in draft.show(None)[draft.prepare])
    followed = draft.follow(None)
    assert "3 of 34" in next(followed)[draft.prepare]
    go_on.set()
    assert f"{PICTURES} pictures taken in" in list(followed)[-1][draft.prepare]
    assert f"{PICTURES} pictures taken in" in next(draft.follow(None))[draft.prepare]


@pytest.mark.slow
def test_the_model_writes_is_stopped_and_writes_the_rest(draft, cameras):
    id, folder = import_(draft, cameras)
    assert "Let the model write captions" in draft.show(None)[draft.notes]
    draft.write(None, {"gallery": id})
    writing = draft.caption_writer.of(folder)
    assert writing.total == PICTURES
    with pytest.raises(InputError, match="still writes"):
        draft.memorise(None, {"gallery": id, "name": "x"})
    until(lambda: writing.done)
    assert "Stop writing" in draft.show(None)[draft.notes]
    draft.hush(None, {"gallery": id})
    kind, words = finished(draft, folder)
    gallery = Gallery.load(folder)
    assert (kind, words) == ("good", f"Stopped: {writing.done} of {PICTURES} pictures have got captions.")
    assert len(gallery.bare) == PICTURES - writing.done > 0
    assert gallery.pseudo_queries == gallery.captions
    draft.write(None, {"gallery": id})
    assert finished(draft, folder)[0] == "good"
    whole = Gallery.load(folder)
    assert not whole.bare
    assert all(whole.captions[image] == gallery.captions[image] for image in range(writing.done))
    assert draft.stirs(shelf(draft)) == []
    notes = draft.show(None)[draft.notes]
    assert "34 of 34 images have only captions that the model wrote" in notes
    assert "Let the model" not in notes


def test_a_correction_is_a_persons_and_what_is_left_stays_the_models(draft, cameras):
    id, folder = import_(draft, cameras[:2])
    gallery = Gallery.load(folder).with_pseudo_queries({0: ["a red thing", "a field", "a sky"]})
    gallery.with_captions(gallery.captions)

    def typed(**fields):
        draft.caption(None, {"gallery": id, "index": "0", **fields})
        gallery = Gallery.load(folder)
        return gallery.captions[0], gallery.pseudo_queries[0]

    models = "a red square\n a  field \n"
    assert typed(models=models) == (["a red square", "a field"], ["a field"])
    assert typed(own="a red square", models="a field") == (["a red square", "a field"], ["a field"])
    assert typed(own="my square", models=models) == (["my square", "a red square", "a field"], ["a field"])
    assert typed(own="my square") == (["my square", "a field"], ["a field"])
    with pytest.raises(GcrError, match="limit is 1,000"):
        typed(own="x" * 1_001)
    with pytest.raises(GcrError, match="1,001 captions, the limit is 1,000"):
        typed(own="\n".join(map(str, range(1_000))), models="a field")
    assert typed() == (["my square", "a field"], ["a field"])
    assert typed(own="a field") == (["a field"], [])
    with pytest.raises(GcrError, match="picture 2 is not one"):
        draft.caption(None, {"gallery": id, "index": "2"})


def test_models_are_chosen_for_a_gallery_and_kept_with_it(draft, models, cameras):
    id, _ = import_(draft, cameras[:2])
    choose(draft, id, "backbone", models.cannot)
    shown = draft.edited(None, {"gallery": id, "which": "backbone"})
    assert "llava cannot describe pictures by itself" in shown[draft.notes]
    assert "Choose SmolVLM-256M-Instruct" in shown[draft.notes]
    with pytest.raises(GcrError, match="llava cannot describe pictures"):
        draft.write(None, {"gallery": id})
    with pytest.raises(HubError, match="no folder here and no hub id"):
        choose(draft, id, "backbone", "nowhere")
    again = made(draft.settings)
    assert models.cannot in again.show(None)[again.how]
    choose(again, id, "backbone", "")
    assert models.able in draft.show(None)[draft.how]


def test_name_preset_identifier_type_and_seed_are_kept_with_the_gallery(draft, cameras):
    id, _ = import_(draft, cameras[:2])
    for which, value in (("name", " Holiday  at sea "), ("preset", "quick"), ("identifiers", "numeric"), ("seed", "7")):
        choose(draft, id, which, value)
    for which, value, message in (
        ("name", "x" * 81, "81 characters, the limits are 1 and 80"),
        ("preset", "slowly", "quick, balanced, thorough"),
        ("identifiers", "random", "atomic"),
        ("seed", "-1", "not a whole number from 0"),
        ("seed", "4294967296", "0 to 4,294,967,295"),
        ("skipped", "x", "choose name, preset, identifiers, seed, backbone, clip"),
    ):
        with pytest.raises(GcrError, match=message):
            choose(draft, id, which, value)
    again = made(draft.settings)
    how = again.show(None)[again.how]
    assert re.search('name="name"[^>]* value="Holiday at sea"', how)
    assert re.findall('value="([a-z]+)"[^>]* checked', how) == ["quick"]
    assert re.findall('value="([a-z]+)" selected', how) == ["numeric"]
    assert re.search('name="seed"[^>]* value="7"', how)
    choose(draft, id, "name", " ")
    assert 'value="My pictures"' in draft.show(None)[draft.how]


@pytest.mark.slow
def test_a_model_that_the_hub_does_not_give_is_said_and_asked_for_again_later(draft, cameras, monkeypatch):
    id, _ = import_(draft, cameras[:2])
    draft.caption(None, {"gallery": id, "index": "0", "own": "a red square"})
    choose(draft, id, "clip", "owner/no-such-clip")
    shown = list(draft.study(None))[-1]
    draft.task_host.end()
    asked, times = [], dict.fromkeys(PRESET_WORDS, 60.0)
    monkeypatch.setattr(draft.task_host, "ask", lambda *question: asked.append(question) or times)
    for again in (shown, list(draft.study(None))[-1]):
        assert "the hub did not give it" in again[draft.notes]
        assert "disabled" in again[draft.how].split("<button")[-1]
    assert not asked
    monkeypatch.setattr("gcr_core.ui.memorize_draft.RETRY_SECONDS", 0)
    shown = list(draft.study(None))[-1]
    assert "the hub did not give it" not in shown[draft.notes] and "about 60 s" in shown[draft.how]
    draft.caption(None, {"gallery": id, "index": "1", "own": "a blue square"})
    assert list(draft.study(None)) and len(asked) == 2, "twice as many captions are another training"


def test_an_estimate_that_another_page_had_measured_is_shown_and_not_measured_again(draft, cameras, monkeypatch):
    id, _ = import_(draft, cameras[:2])
    draft.caption(None, {"gallery": id, "index": "0", "own": "a red square"})
    asked, times = [], dict.fromkeys(PRESET_WORDS, 60.0)
    monkeypatch.setattr(draft.task_host, "ask", lambda *question: asked.append(question) or times)
    for _ in range(2):
        assert "about 60 s" in list(draft.study(None))[-1][draft.how]
    assert len(asked) == 1


def test_a_models_folder_is_named_so_that_a_process_begun_elsewhere_finds_it(draft, models, monkeypatch):
    monkeypatch.chdir(Path(models.able).parent)
    recipe = draft.recipe({"backbone": "idefics3", "clip": "owner/clip"})
    assert (recipe.backbone, recipe.clip) == (models.able, "owner/clip")


def test_visitors_choose_no_models(settings, models, cameras):
    shared = made(Settings(home=settings.home, backbone=models.cannot, clip=models.clip, visitors=True))
    request = SimpleNamespace(headers={"X-GCR-Owner": "a" * 32}, cookies={})
    id, _ = shared.registry.visitors.workspace(request).collect(cameras[:2])
    with pytest.raises(InputError, match="fixed on this page"):
        shared.choose(request, {"gallery": id, "which": "backbone", "value": models.able})
    shared.choose(request, {"gallery": id, "which": "preset", "value": "quick"})
    shown = shared.show(request)
    assert "SmolVLM" not in shown[shared.notes]
    assert "readonly" in shown[shared.how] and 'data-which="backbone"' not in shown[shared.how]


def test_visitors_send_the_fixed_models_as_the_page_shows_them(settings, models, cameras, monkeypatch):
    monkeypatch.chdir(Path(models.able).parent)
    shared = made(Settings(home=settings.home, backbone="idefics3/", clip="llava", visitors=True))
    request = SimpleNamespace(headers={"X-GCR-Owner": "a" * 32}, cookies={})
    shared.registry.visitors.workspace(request).collect(cameras[:2])
    sent = dict(re.findall('name="(backbone|clip)" value="(.*?)"', shared.show(request)[shared.how]))
    recipe = shared.recipe(sent)
    assert (recipe.backbone, recipe.clip) == (models.able, models.cannot)


def test_a_second_click_begins_no_second_training(draft, cameras):
    id, _ = import_(draft, cameras[:2])
    draft.caption(None, {"gallery": id, "index": "0", "own": "a red square"})
    rows = []
    draft.jobs = SimpleNamespace(
        list=lambda shelf: rows,
        submit=lambda shelf, gallery, recipe, name: rows.append({"gallery": gallery, "state": "queued"}),
    )
    for _ in range(2):
        draft.memorise(None, {"gallery": id, "name": "Shapes"})
    assert len(rows) == 1


def test_rows_do_not_move_under_a_persons_hands_while_the_model_writes(draft, cameras, monkeypatch):
    import_(draft, cameras[:2])
    assert draft.table in draft.show(None, place=(0, True))
    monkeypatch.setattr(draft.caption_writer, "of", lambda folder: Writing("model", 2))
    assert draft.table not in draft.show(None, place=(0, True))
    assert draft.table in draft.show(None, place=(0, False))
