"""A draft: its import outlives a reload, the model's captions are written, corrected, stopped and begun again."""

import contextlib
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError, HubError, InputError
from gcr_core.serving.caption_writer import Writing
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.training.config import CAPTIONER, PRESET_WORDS
from gcr_core.ui import uploads
from gcr_core.ui.auth import Visitors
from gcr_core.ui.memorize_draft import Draft
from gcr_core.ui.model_reach import ModelReach
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
    registry = Registry(None, None, Visitors(settings))
    ends: list[Any] = []
    draft: Any = Draft(registry, SimpleNamespace(list=lambda shelf: []), {}, lambda *end: ends.append(end))
    draft.ends = ends
    return draft


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


def typed(draft, id, number, own):
    draft.pictures.caption(None, {"gallery": id, "file": f"IMG_{number:04}.png", "own": own})


def finished(draft, folder):
    """How the writing for a gallery ended."""
    until(lambda: draft.ends)
    ended, *end = draft.ends.pop()
    assert ended == folder and draft.caption_writer.of(folder) is None
    return tuple(end)


def test_an_import_goes_on_through_a_reload_and_shows_how_far_it_is(draft, cameras, monkeypatch):
    go_on, collect = threading.Event(), Workspace.collect

    def slow(self, sources, on_progress):
        on_progress(3, PICTURES)
        go_on.wait()
        return collect(self, sources, on_progress)

    monkeypatch.setattr(Workspace, "collect", slow)
    monkeypatch.setattr(uploads, "laid_out", lambda files, most: contextlib.nullcontext(cameras))
    next(draft.take_in(None, []))
    until(lambda: "Reading 3 of 34 files" in draft.show(None)[draft.prepare])
    followed = draft.follow(None)
    assert "3 of 34" in next(followed)[draft.prepare]
    go_on.set()
    assert f"{PICTURES} pictures</b>" in list(followed)[-1][draft.prepare]
    assert f"{PICTURES} pictures</b>" in next(draft.follow(None))[draft.prepare]


@pytest.mark.slow
def test_the_model_writes_is_stopped_and_writes_the_rest(draft, cameras):
    id, folder = import_(draft, cameras)
    assert "Let the model write captions" in draft.show(None)[draft.notes]
    draft.write(None, {"gallery": id})
    writing = draft.caption_writer.of(folder)
    assert writing.total == PICTURES
    with pytest.raises(InputError, match="the model writes captions"):
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
    assert "34 of 34 images have only the model’s own words" in notes
    assert "Let the model" not in notes


def test_captions_are_not_offered_again_for_pictures_that_the_model_has_no_words_for(draft, cameras, monkeypatch):
    id, folder = import_(draft, cameras[:4])
    asked = []

    def ask(verb, folder, images, backbone, each, on_word):
        asked.append(images)
        on_word({image: [] if image % 2 else ["a colour"] for image in images})

    monkeypatch.setattr(draft.caption_writer, "_host", SimpleNamespace(ask=ask, end=lambda: None))
    draft.write(None, {"gallery": id})
    assert finished(draft, folder)[1].endswith("For 2 of 4 pictures the model has no words.")
    notes = draft.show(None)[draft.notes]
    assert "has no words for 2 pictures without a caption: type some in to search them by." in notes
    assert "Let the model write" not in notes
    captions = Gallery.load(folder).captions
    Gallery.load(folder).with_captions([[], *captions[1:]])
    notes = draft.show(None)[draft.notes]
    assert "for the 1 picture without a caption" in notes and "no words for 2 pictures" in notes
    draft.write(None, {"gallery": id})
    assert finished(draft, folder)[0] == "good" and asked == [[0, 1, 2, 3], [0]]


def test_a_correction_is_a_persons_and_what_is_left_stays_the_models(draft, cameras):
    id, folder = import_(draft, cameras[:2])
    gallery = Gallery.load(folder).with_pseudo_queries({0: ["a red thing", "a field", "a sky"]})
    gallery.with_captions(gallery.captions)

    def typed(**fields):
        draft.pictures.caption(None, {"gallery": id, "file": "IMG_0000.png", **fields})
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
    with pytest.raises(GcrError, match=r"'IMG_0002.png' is not in the gallery of 2"):
        draft.pictures.caption(None, {"gallery": id, "file": "IMG_0002.png"})


def test_models_are_chosen_for_a_gallery_and_kept_with_it(draft, models, cameras):
    id, _ = import_(draft, cameras[:2])
    choose(draft, id, "backbone", models.cannot)
    shown = draft.edited(None, {"gallery": id, "which": "backbone"})
    clip = Path(draft.settings.clip).name
    assert f"2 of 2 images have no caption, and need none: they will be found by what {clip}" in shown[draft.notes]
    assert "SmolVLM-256M" not in shown[draft.notes], "it cannot be had"
    draft.reach.known[CAPTIONER] = ""
    shown = draft.edited(None, {"gallery": id, "which": "backbone"})
    assert "Use SmolVLM-256M-Instruct" in shown[draft.notes]
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


def test_a_model_that_cannot_be_had_is_one_line_that_leads_back_to_the_one_that_ships(draft, cameras, monkeypatch):
    id, _ = import_(draft, cameras[:2])
    typed(draft, id, 0, "a red square")
    monkeypatch.setattr(draft.task_host, "ask", lambda *question: pytest.fail("the model is not here"))
    hub_answers = threading.Event()
    asks = ModelReach._ask
    monkeypatch.setattr(ModelReach, "_ask", lambda reach, name: hub_answers.wait() and asks(reach, name))
    choose(draft, id, "clip", "owner/no-such-clip")
    before = draft.state(None)
    hub_answers.set()
    until(lambda: draft.reach.known.get("owner/no-such-clip"))
    assert draft.state(None) != before, "an open page hears of it"
    shown = draft.show(None)
    assert "no-such-clip cannot be downloaded: the Hugging Face hub cannot be reached" in shown[draft.notes]
    assert shown[draft.notes].count("<p ") == 1
    assert 'data-which="clip" data-value="checkpoints/gcr-mini-clip"' in shown[draft.notes]
    assert "disabled" in shown[draft.how].split("<button")[-1]
    assert list(draft.study(None)) == []
    choose(draft, id, "clip", "checkpoints/gcr-mini-clip")
    shown = draft.show(None)
    assert "cannot be downloaded" not in shown[draft.notes]
    assert "disabled" not in shown[draft.how].split("<button")[-1]


def test_while_the_hub_is_asked_for_a_model_nothing_is_offered(draft, cameras, monkeypatch):
    id, _ = import_(draft, cameras[:2])
    monkeypatch.setattr(draft.reach, "_ask", lambda name: None)
    choose(draft, id, "backbone", "owner/model")
    shown = draft.show(None)
    assert "Asking the Hugging Face hub for owner/model" in shown[draft.notes]
    assert "Let the model write" not in shown[draft.notes]
    assert "disabled" in shown[draft.how].split("<button")[-1]


def test_a_model_that_was_not_downloaded_is_said_and_asked_for_again_later(draft, cameras, monkeypatch):
    id, _ = import_(draft, cameras[:2])
    typed(draft, id, 0, "a red square")
    choose(draft, id, "clip", "owner/clip")
    draft.reach.known["owner/clip"] = ""
    asked, times = [], dict.fromkeys(PRESET_WORDS, 60.0)

    def refuse(*question):
        asked.append(question)
        raise HubError("the hub did not give it")

    monkeypatch.setattr(draft.task_host, "ask", refuse)
    for _ in range(2):
        shown = list(draft.study(None))[-1]
        assert "the hub did not give it" in shown[draft.notes]
        assert "disabled" in shown[draft.how].split("<button")[-1]
    assert len(asked) == 1
    monkeypatch.setattr(draft.task_host, "ask", lambda *question: asked.append(question) or times)
    monkeypatch.setattr("gcr_core.ui.memorize_draft.RETRY_SECONDS", 0)
    shown = list(draft.study(None))[-1]
    assert "the hub did not give it" not in shown[draft.notes] and "about 60 s" in shown[draft.how]
    typed(draft, id, 1, "a blue square")
    assert list(draft.study(None)) and len(asked) == 3, "twice as many captions are another training"


def test_an_estimate_that_another_page_had_measured_is_shown_and_not_measured_again(draft, cameras, monkeypatch):
    id, _ = import_(draft, cameras[:2])
    typed(draft, id, 0, "a red square")
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


def test_visitors_are_shown_the_names_of_the_fixed_models_and_no_path(settings, models, cameras, monkeypatch):
    monkeypatch.chdir(Path(models.able).parent)
    shared = made(Settings(home=settings.home, backbone="idefics3/", clip="llava", visitors=True))
    request = SimpleNamespace(headers={"X-GCR-Owner": "a" * 32}, cookies={})
    shared.registry.visitors.workspace(request).collect(cameras[:2])
    page = "".join(part for part in shared.show(request).values() if isinstance(part, str))
    assert 'value="idefics3" readonly' in page and 'value="llava" readonly' in page
    assert str(Path(models.able).parent) not in page and str(settings.home) not in page
    recipe = shared.recipe({})
    assert (recipe.backbone, recipe.clip) == (models.able, models.cannot)


def test_a_second_click_begins_no_second_training(draft, cameras):
    id, _ = import_(draft, cameras[:2])
    typed(draft, id, 0, "a red square")
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


def drop(draft, monkeypatch, paths):
    """What the page shows once pictures were dropped and read."""
    monkeypatch.setattr(uploads, "laid_out", lambda files, most: contextlib.nullcontext(paths))
    return list(draft.take_in(None, []))[-1]


def rows(folder):
    gallery = Gallery.load(folder)
    return dict(zip(gallery.file_names, gallery.captions, strict=True))


def test_a_second_batch_comes_into_the_gallery_that_is_open_and_a_line_says_what_came_in(
    draft, cameras, monkeypatch, tmp_path
):
    drop(draft, monkeypatch, cameras[:3])
    (id,) = shelf(draft).ids("galleries")
    folder = shelf(draft).gallery(id)
    typed(draft, id, 1, "something red")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    shown = drop(draft, monkeypatch, [*cameras[2:5], broken])
    assert shelf(draft).ids("galleries") == [id]
    assert "Last drop: 2 pictures added, 1 there already, 1 file left out." in shown[draft.prepare]
    assert "<b>5 pictures</b>" in shown[draft.prepare]
    assert rows(folder) == {f"IMG_{number:04}.png": ["something red"] if number == 1 else [] for number in range(5)}
    again = made(draft.settings)
    assert "Last drop: 2 pictures added" in again.show(None)[again.prepare], "it outlives a restart"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".batch")] == []


def test_a_single_folder_that_is_dropped_onto_others_is_an_album_but_not_the_one_that_they_began_as(
    draft, cameras, monkeypatch, tmp_path
):
    folders = [tmp_path / name for name in ("Holiday", "Beach")]
    for folder, pictures in zip(folders, (cameras[:2], cameras[2:4]), strict=True):
        folder.mkdir()
        for path in pictures:
            path.rename(folder / path.name)
    drop(draft, monkeypatch, folders[:1])
    (id,) = shelf(draft).ids("galleries")
    choose(draft, id, "name", "Our holiday")
    cameras[5].rename(folders[0] / "new.png")
    assert "Last drop: 1 picture added, 2 there already." in drop(draft, monkeypatch, folders[:1])[draft.prepare]
    shown = drop(draft, monkeypatch, folders[1:])
    assert "Last drop: 2 pictures added to the album “Beach”." in shown[draft.prepare]
    assert Gallery.load(shelf(draft).gallery(id)).albums == ["", "", "", "Beach", "Beach"]


def test_a_batch_that_cannot_be_used_changes_nothing(draft, cameras, monkeypatch, tmp_path):
    drop(draft, monkeypatch, cameras[:2])
    (id,) = shelf(draft).ids("galleries")
    folder, broken = shelf(draft).gallery(id), tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(GcrError, match="no image can be used"):
        drop(draft, monkeypatch, [broken])
    assert list(rows(folder)) == ["IMG_0000.png", "IMG_0001.png"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".batch")] == []


def test_a_batch_whose_gallery_began_to_be_memorised_meanwhile_is_refused(draft, cameras, monkeypatch):
    drop(draft, monkeypatch, cameras[:2])
    (id,) = shelf(draft).ids("galleries")
    collect = vars(Gallery)["collect"].__func__

    def slow(cls, *arguments):
        draft.jobs.list = lambda shelf: [{"gallery": id, "state": "queued"}]
        return collect(cls, *arguments)

    monkeypatch.setattr(Gallery, "collect", classmethod(slow))
    with pytest.raises(InputError, match="being memorised already"):
        drop(draft, monkeypatch, cameras[2:4])
    assert len(Gallery.load(shelf(draft).gallery(id))) == 2


def test_a_removal_moves_no_caption_that_is_still_on_its_way(draft, cameras):
    id, folder = import_(draft, cameras[:4])
    shown = draft.take_out(None, {"gallery": id, "file": "IMG_0001.png", "page": "0", "only": "0"})
    assert "1 picture removed" in shown[draft.prepare]
    assert "IMG_0001.png" not in shown[draft.table] and "IMG_0002.png" in shown[draft.table]
    typed(draft, id, 2, "typed before the page knew")
    typed(draft, id, 1, "typed for the one that is gone")
    assert rows(folder) == {"IMG_0000.png": [], "IMG_0002.png": ["typed before the page knew"], "IMG_0003.png": []}
    shown = draft.put_back(None, {"gallery": id})
    assert "removed" not in shown[draft.prepare]
    assert rows(folder)["IMG_0001.png"] == ["typed for the one that is gone"]


def test_all_but_some_are_chosen_and_removed(draft, cameras):
    id, folder = import_(draft, cameras)
    draft.take_out(None, {"gallery": id, "all": True, "except": ["IMG_0003.png", "IMG_0004.png"]})
    assert list(rows(folder)) == ["IMG_0003.png", "IMG_0004.png"]
    with pytest.raises(GcrError, match="all 2 pictures would be removed"):
        draft.take_out(None, {"gallery": id, "all": True})
    with pytest.raises(InputError, match="without their names"):
        draft.take_out(None, {"gallery": id, "pictures": "IMG_0003.png"})


def test_nothing_is_removed_under_the_models_hands_nor_from_what_is_being_memorised(draft, cameras, monkeypatch):
    id, folder = import_(draft, cameras[:3])
    data = {"gallery": id, "file": "IMG_0001.png"}
    with monkeypatch.context() as patch:
        patch.setattr(draft.caption_writer, "of", lambda folder: Writing("model", 2))
        with pytest.raises(InputError, match="wait until it is done, or stop it"):
            draft.take_out(None, data)
    draft.jobs.list = lambda shelf: [{"gallery": id, "state": "running"}]
    with pytest.raises(InputError, match="being memorised already"):
        draft.take_out(None, data)
    assert len(Gallery.load(folder)) == 3


def test_a_caption_is_given_to_several_and_taken_off_them(draft, cameras):
    id, folder = import_(draft, cameras[:4])
    typed(draft, id, 0, "mine")
    gallery = Gallery.load(folder).with_pseudo_queries({1: ["the beach", "a field"]})
    gallery.with_captions(gallery.captions)
    draft.take_out(None, {"gallery": id, "file": "IMG_0003.png"})

    def give(**edit):
        draft.pictures.caption_chosen(None, {"gallery": id, **edit})

    some = ["IMG_0000.png", "IMG_0001.png", "IMG_0003.png", "gone.png"]
    give(pictures=some, value=" the  beach ")
    assert rows(folder) == {
        "IMG_0000.png": ["mine", "the beach"],
        "IMG_0001.png": ["the beach", "a field"],
        "IMG_0002.png": [],
    }
    assert Gallery.load(folder).pseudo_queries[1] == ["a field"], "what a person gives is a person's"
    give(pictures=some, value="the beach")
    assert rows(folder)["IMG_0000.png"] == ["mine", "the beach"]
    give(all=True, only=True, value="bare")
    assert rows(folder)["IMG_0002.png"] == ["bare"] and "bare" not in rows(folder)["IMG_0000.png"]
    give(all=True, value="the beach", off=True, **{"except": ["IMG_0001.png"]})
    assert rows(folder) == {
        "IMG_0000.png": ["mine"],
        "IMG_0001.png": ["the beach", "a field"],
        "IMG_0002.png": ["bare"],
    }
    draft.put_back(None, {"gallery": id})
    assert rows(folder)["IMG_0003.png"] == ["the beach"]
    for value, message in ((" ", "caption is empty"), ("x" * 1_001, "1,001 characters, the limit is 1,000")):
        with pytest.raises(GcrError, match=message):
            give(pictures=some, value=value)


def test_a_caption_too_many_is_given_to_none(draft, cameras):
    id, folder = import_(draft, cameras[:2])
    typed(draft, id, 1, "\n".join(map(str, range(1_000))))
    with pytest.raises(GcrError, match=r"IMG_0001.png: has 1,001 captions, the limit is 1,000"):
        draft.pictures.caption_chosen(None, {"gallery": id, "all": True, "value": "the beach"})
    assert rows(folder)["IMG_0000.png"] == []


def test_what_the_page_is_of_changes_with_pictures_and_not_with_what_is_typed(draft, cameras, monkeypatch):
    states = [draft.state(None)]
    drop(draft, monkeypatch, cameras[:2])
    states.append(draft.state(None))
    (id,) = shelf(draft).ids("galleries")
    typed(draft, id, 0, "a red square")
    assert draft.state(None) == states[-1]
    drop(draft, monkeypatch, cameras[2:3])
    states.append(draft.state(None))
    draft.take_out(None, {"gallery": id, "file": "IMG_0000.png"})
    states.append(draft.state(None))
    assert len({str(state) for state in states}) == len(states)


def test_what_the_page_is_of_is_another_after_an_import_that_failed(draft, monkeypatch, tmp_path):
    before = draft.state(None)
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(GcrError):
        drop(draft, monkeypatch, [tmp_path / "notes.png"])
    assert draft.state(None) != before, "a page that was told of it late shows it as going on until it hears otherwise"
