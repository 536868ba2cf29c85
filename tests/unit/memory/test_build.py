"""Making a memory: what is kept out, what is said before and after, that it can be stopped, that it loads."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError, HubError
from gcr_core.memory import build as build_module
from gcr_core.memory import measures
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.dense import Embeddings
from gcr_core.training.config import PRESETS, Recipe, Step, Training, plan
from gcr_core.training.estimate import estimate
from gcr_core.training.preflight import HELD_OUT_FEWEST, can_describe_pictures, has_eyes, hold_out, remarks, unmeasured
from gcr_core.training.progress import Clock, Notes

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def recipe(llava_folder, tiny_clip_dir):
    return Recipe(backbone=str(llava_folder), clip=str(tiny_clip_dir), preset="balanced")


def captioned(gallery, captions, pseudo_queries=None):
    return Gallery(gallery.root, gallery.file_names, captions, pseudo_queries=pseudo_queries)


def gallery_of(captions, pseudo_queries=None):
    names = [f"{image}.png" for image in range(len(captions))]
    return Gallery(Path(), names, captions, pseudo_queries=pseudo_queries)


def test_an_image_with_three_captions_may_give_one_up_but_never_its_first():
    captions = [[f"first {i}", f"second {i}", f"third {i}"] for i in range(50)] + [["a", "b"]]
    kept, held_out = hold_out(gallery_of(captions), seed=0)
    assert len(held_out) == HELD_OUT_FEWEST
    for text, image in held_out.items():
        assert text in captions[image][1:] and text not in kept[image]
    assert sum(map(len, kept)) == sum(map(len, captions)) - HELD_OUT_FEWEST
    assert hold_out(gallery_of(captions), seed=0)[1] == held_out != hold_out(gallery_of(captions), seed=1)[1]


def test_a_caption_that_another_image_has_too_is_not_kept_out():
    gallery = gallery_of([["a", "shared", "own"], ["b", "shared", "shared too"], ["c", "shared too"]])
    assert hold_out(gallery, seed=0)[1] == {"own": 0}


def test_what_the_model_wrote_is_never_kept_out_as_if_a_person_had_asked():
    captions = [[f"theirs {i}", f"theirs too {i}", f"the model's {i}"] for i in range(30)]
    written = [texts[2:] for texts in captions]
    kept, held_out = hold_out(gallery_of(captions, written), seed=0)
    assert len(held_out) == HELD_OUT_FEWEST
    assert all(text.startswith("theirs too") for text in held_out)
    assert all(set(texts) <= set(left) for texts, left in zip(written, kept, strict=True))
    assert hold_out(gallery_of(captions, captions), seed=0) == (captions, {})


def test_a_backbone_with_a_chat_template_can_describe_pictures(llava_folder, idefics3_folder, tmp_path):
    assert can_describe_pictures(str(idefics3_folder))
    assert not can_describe_pictures(str(llava_folder))
    assert can_describe_pictures("checkpoints/gcr-mini")
    with pytest.raises(HubError, match="no folder here and no hub id"):
        can_describe_pictures(str(tmp_path / "nowhere"))
    assert can_describe_pictures("owner/model-that-is-not-here-yet")
    (tmp_path / "processor_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert can_describe_pictures(str(tmp_path))


def test_a_gallery_without_any_caption_is_found_by_what_the_clip_sees_where_the_backbone_has_no_eyes(
    tiny_gallery, recipe
):
    (told,) = remarks(captioned(tiny_gallery, [[] for _ in range(12)]), recipe)
    assert "12 of 12 images have no caption, and need none" in told
    assert f"they will be found by what {Path(recipe.clip).name} sees in them" in told
    assert "names of people and places it cannot know" in told


def test_a_backbone_with_eyes_takes_a_gallery_without_any_caption_and_says_what_it_cannot_know(tiny_gallery, tmp_path):
    (tmp_path / "tags.json").write_text('[{"word": "dog", "classes": [0]}]')
    assert has_eyes(str(tmp_path)) and can_describe_pictures(str(tmp_path))
    first, *others = remarks(captioned(tiny_gallery, [[] for _ in range(12)]), Recipe(backbone=str(tmp_path)))
    assert "12 of 12 images have no caption, and need none: they will be found by what" in first
    assert "names of people and places it cannot know: type in those that you will search for" in first
    assert not others
    assert not has_eyes("owner/model-that-is-not-here-yet")


def test_images_without_a_caption_are_counted_before_training(tiny_gallery, recipe):
    told = remarks(captioned(tiny_gallery, [["a", "b", "c"], ["d"], *[[]] * 10]), recipe)
    assert [line for line in told if line.startswith("10 of 12 images have no caption")]
    assert not [line for line in told if "kept out" in line]


def test_images_that_only_the_model_captioned_are_counted_before_training(tiny_gallery, recipe):
    written = [["the model's"], *[[]] * 11]
    told = remarks(captioned(tiny_gallery, [["the model's"], *tiny_gallery.captions[1:]], written), recipe)
    assert [line for line in told if line.startswith("1 of 12 images have only the model’s own words")]


def test_captions_too_few_to_keep_any_out_are_told(tiny_gallery, recipe):
    assert [line for line in unmeasured(tiny_gallery) if "no caption is kept out" in line]


def test_a_longer_preset_has_more_steps_of_every_kind(tiny_gallery):
    plans = [plan(tiny_gallery, Recipe(preset=preset)) for preset in PRESETS]
    for shorter, longer in itertools.pairwise(plans):
        assert shorter.memorise < longer.memorise
        assert shorter.retrieve < longer.retrieve


def test_recipe_prospects_and_progress_import_no_model_library():
    program = (
        "import sys, gcr_core.training.config, gcr_core.training.preflight, gcr_core.training.progress\n"
        "print(sorted({'torch', 'transformers', 'faiss', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_estimate_has_every_preset_in_seconds_the_longer_the_more(tiny_gallery, recipe):
    seconds = estimate(tiny_gallery, recipe)
    assert list(seconds) == list(PRESETS)
    assert 0 < seconds["quick"] < seconds["balanced"] < seconds["thorough"]


def test_a_recipe_names_what_it_does_not_know():
    with pytest.raises(GcrError, match="unknown preset 'fast'; choose one of quick"):
        Recipe(preset="fast")
    with pytest.raises(GcrError, match="unknown identifier type"):
        Recipe(identifiers="roman")


class StopError(Exception):
    """What a listener raises to stop the making."""


def test_the_dense_baseline_is_measured_without_the_captions_held_out_and_kept_with_them(
    tiny_gallery, recipe, tmp_path, monkeypatch
):
    captions = [[*texts, f"number {i} of twelve"] for i, texts in enumerate(tiny_gallery.captions)]
    gallery, measured, seen = captioned(tiny_gallery, captions), [], []
    nearest = measures.nearest

    def noted(dense, vectors, texts):
        measured.append((dense.vectors, texts))
        return nearest(dense, vectors, texts)

    monkeypatch.setattr(measures, "nearest", noted)
    build = build_module._Build(gallery, recipe, seen.append, tmp_path)
    dense = build.build_dense(build.load_clip(), None)
    kept, held_out = hold_out(gallery, recipe.seed)
    assert len(held_out) == 12
    (asked,) = [vectors for vectors, texts in measured if texts == list(held_out)]
    vectors = Embeddings.read(gallery, recipe.clip)
    assert np.allclose(asked, vectors.index(kept).vectors, atol=1e-5)
    assert np.allclose(dense.vectors, vectors.index(captions).vectors, atol=1e-5)
    assert not np.allclose(asked, dense.vectors, atol=1e-3)
    assert all(0 <= build.notes["dense"][name] <= 1 for name in ("memorized", "trained_captions", "retrieved"))
    assert build.notes["dense"]["trained_pseudo_queries"] is None
    assert [(p.stage, p.looked, p.looks) for p in seen[1:]] == [("dense", 0, 48), ("dense", 12, 48), ("dense", 48, 48)]
    monkeypatch.setattr(build_module, "Embeddings", None)
    again = build_module._Build(gallery, recipe, seen.append, tmp_path)
    assert again.load_clip() is None
    assert (again.build_dense(None, None).vectors == dense.vectors).all()
    assert again.notes["dense"] == build.notes["dense"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["dense", "retrieve"])
def test_a_memory_that_was_stopped_is_finished_from_its_checkpoint(stage, tiny_gallery, recipe, tmp_path):
    captions = [[*texts, f"number {i} of twelve"] for i, texts in enumerate(tiny_gallery.captions)]
    gallery, out, checkpoint = captioned(tiny_gallery, captions), tmp_path / "memory", tmp_path / "checkpoint"

    def stop(progress):
        if progress.stage == stage and (progress.step % 10 == 9 or progress.looked):
            raise StopError

    with pytest.raises(StopError):
        make_memory(gallery, recipe, out, stop, checkpoint)
    assert not out.exists()
    seen = []
    report = make_memory(gallery, recipe, out, seen.append, checkpoint)
    first = next(progress.step for progress in seen if progress.step)
    assert first == 1 if stage == "dense" else first % 10 == 0
    assert [progress.stage for progress in seen[-2:]] == ["measure", "save"]
    assert [progress.step for progress in seen if progress.loss is not None] == list(range(first, seen[-1].steps + 1))
    memory = Memory.from_pretrained(out)
    assert memory.facts["training"] == json.loads(json.dumps(report))
    assert report["images"] == 12 and report["captions"] == 36 and report["held_out"] == 12
    different = len({text for texts in gallery.captions for text in texts})
    assert report["asked"] == {"trained_captions": different, "trained_pseudo_queries": 0}
    hits = memory.recall_images([gallery.open(image) for image in range(12)], top=1)
    right = sum(hit[0].index == image for image, hit in enumerate(hits))
    assert report["memorized"] == pytest.approx(right / 12, abs=1e-4) and right >= 9
    assert 0 <= report["retrieved"] <= 1 and 0 <= report["dense"]["retrieved"] <= 1


def test_what_killed_writers_left_in_a_checkpoint_is_gone_once_it_is_opened(tiny_gallery, recipe, tmp_path):
    kept, leftover = "training.safetensors", ".training.safetensors.0123abcd"
    for folder in (tmp_path, tmp_path / "backbone"):
        folder.mkdir(exist_ok=True)
        for name in (kept, leftover):
            (folder / name).touch()

    def stop(progress):
        raise StopError

    with pytest.raises(StopError):
        make_memory(tiny_gallery, recipe, tmp_path / "memory", stop, tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {kept}


def test_looks_are_counted_and_what_is_left_holds_them_and_all_that_comes_after(monkeypatch):
    seconds, told = 0.0, []
    monkeypatch.setattr("gcr_core.training.progress.time.monotonic", lambda: seconds)
    training = Training(memorise=10, describe=0, retrieve=0)
    clock = Clock(training, Notes(None), told.append, small=False)
    for done in range(1, 6):
        seconds += 1.0
        clock.embedded(done, 5)
    seconds += 1.0
    clock.indexed()
    assert [progress.looked for progress in told] == [1, 2, 3, 4, 5]
    assert [progress.seconds_left for progress in told] == [None] * 5, "how long the backbone takes is not known yet"
    clock.expect({"pictures": 20.0, "queries": 1.0, "descriptions": 1.0})
    for looked in (8, 16, 24):
        seconds += 16.0
        clock.looked(looked, 40)
    looks = told[5:]
    assert [(progress.stage, progress.looked, progress.looks) for progress in looks] == [
        ("look", 8, 40),
        ("look", 16, 40),
        ("look", 24, 40),
    ]
    assert [progress.seconds_left for progress in looks] == [None, 24 * 2.0 + 10 * 20.0, 16 * 2.0 + 10 * 20.0]
    seconds += 100.0
    clock.backbone(Step("memorise", "pictures", 1, 10, 1.0, 0.5))
    assert told[-1].seconds_left == 9 * 20.0, "the first step comes after the model is made ready"
    seconds += 5.0
    clock.backbone(Step("memorise", "pictures", 2, 10, 1.0, 0.5))
    assert (told[-1].seconds_left, told[-1].looks) == (8 * 5.0, None)
    assert clock.spent == {"dense": 6.0, "backbone": 48.0 + 105.0}
