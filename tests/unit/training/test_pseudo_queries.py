"""Pseudo-queries: a backbone that was taught to see colours and shapes writes captions for pictures without any."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.models.backbone import Backbone
from gcr_core.models.tags import Tagger
from gcr_core.training.config import MAX_WRITTEN
from gcr_core.training.preflight import check_written
from gcr_core.training.pseudo_queries import BROKEN_OFF, INSTRUCTIONS, TAGGED, batches, tidied, write_captions

pytestmark = pytest.mark.slow

STEPS = 150


@pytest.fixture(scope="module")
def seeing(idefics3_folder, tiny_gallery):
    """A tiny Idefics3 that has learnt two sentences about each picture of the tiny gallery, asked in two ways."""
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    torch.manual_seed(0)
    end, space = backbone.tokenizer.eos_token_id, " "
    pictures = [tiny_gallery.open(image) for image in range(len(tiny_gallery))]
    shown = [backbone.image_inputs(pictures, instruction) for instruction in INSTRUCTIONS[:2]]
    optimizer = torch.optim.AdamW(backbone.model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, STEPS, pct_start=0.1)
    for step in range(STEPS):
        inputs = dict(shown[step % 2])
        texts = [space + captions[step // 2 % 2] for captions in tiny_gallery.captions]
        answers = [[*ids, end] for ids in backbone.tokenizer(texts, add_special_tokens=False)["input_ids"]]
        longest = max(map(len, answers))
        said = torch.tensor([answer + [-100] * (longest - len(answer)) for answer in answers])
        prompt = inputs.pop("input_ids")
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(said)], 1)
        labels = torch.cat([torch.full_like(prompt, -100), said], 1)
        ids = torch.cat([prompt, said.clamp(min=0)], 1)
        backbone.model(input_ids=ids, labels=labels, **inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return backbone


def bare(gallery, captions=None):
    return Gallery(gallery.root, gallery.file_names, captions or [[] for _ in gallery.file_names])


def written(backbone, gallery, **options):
    batches = write_captions(backbone, gallery, gallery.bare, **options)
    return {image: texts for batch in batches for image, texts in batch.items()}


def test_captions_say_what_the_pictures_show_and_no_two_the_same(seeing, tiny_gallery):
    found = written(seeing, bare(tiny_gallery), count=2)
    assert list(found) == list(range(12))
    right = 0
    for image, texts in found.items():
        assert 1 <= len(texts) <= 2 and len({text.casefold() for text in texts}) == len(texts)
        right += texts[0].casefold() in tiny_gallery.captions[image]
    assert right >= 9, found


def test_only_images_without_a_caption_are_written_about_and_a_stop_in_between_changes_nothing(seeing, tiny_gallery):
    whole = written(seeing, bare(tiny_gallery), count=3, seed=7)
    some = [["a person's"], *[[]] * 11]
    assert list(written(seeing, bare(tiny_gallery, some), count=3)) == list(range(1, 12))
    batches = write_captions(seeing, tiny_gallery, range(12), count=3, seed=7)
    first = next(batches)
    rest = [[str(image)] if image in first else [] for image in range(12)]
    assert first | written(seeing, bare(tiny_gallery, rest), count=3, seed=7) == whole
    assert written(seeing, bare(tiny_gallery), count=3, seed=8) != whole


def test_a_backbone_without_features_is_shown_the_pictures_themselves(seeing, tiny_gallery, monkeypatch):
    few = Gallery(tiny_gallery.root, tiny_gallery.file_names[:4], [[] for _ in range(4)])
    with_features = written(seeing, few, count=2)
    monkeypatch.setitem(seeing.__dict__, "takes_features", False)
    assert written(seeing, few, count=2) == with_features


def test_little_memory_means_smaller_batches(seeing, tiny_gallery, monkeypatch):
    monkeypatch.setattr("gcr_core.training.pseudo_queries.free_bytes", lambda device: 0)
    batches = list(write_captions(seeing, tiny_gallery, range(2), count=2))
    assert [list(batch) for batch in batches] == [[0], [1]]
    assert all(texts for batch in batches for texts in batch.values())


def seeing_red(images):
    """Logits of ten classes, the first of which is red."""
    return torch.tensor([[9.0 * (np.asarray(image)[..., 0].mean() > 128), *[0.0] * 9] for image in images])


def test_eyes_write_tags_batch_after_batch_and_none_of_what_they_do_not_know(tmp_path):
    eyes = SimpleNamespace(tagger=Tagger([{"word": "red", "classes": [0]}]), seen_logits=seeing_red)
    for image in range(TAGGED + 3):
        Image.new("RGB", (40, 40), (255 * (image % 2), 0, image)).save(tmp_path / f"IMG_{image:02}.png")
    noise = np.random.default_rng(0).integers(128, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"IMG_{TAGGED + 3:02}.png")
    gallery = Gallery.from_folder(tmp_path)
    found = list(write_captions(eyes, gallery, gallery.bare, count=5))
    assert [len(batch) for batch in found] == [len(some) for some in batches(eyes, gallery.bare, 5)] == [TAGGED, 4]
    assert found[0] == {image: ["red"] if image % 2 else [] for image in range(TAGGED)}
    assert found[1][TAGGED + 1] == ["red"]
    assert found[1][TAGGED + 3] == []


def test_no_more_tags_are_given_than_captions_were_asked_for(tiny_gallery):
    table = [{"word": "one", "classes": [0]}, {"word": "another", "classes": [1]}]
    logits = torch.tensor([[9.0, 9.0, *[0.0] * 8]])
    eyes = SimpleNamespace(tagger=Tagger(table), seen_logits=lambda images: logits)
    (found,) = write_captions(eyes, tiny_gallery, [0], count=1)
    assert found == {0: ["one"]}


def test_a_backbone_that_cannot_and_a_count_that_cannot_be_are_refused(llava_folder, idefics3_folder, tiny_gallery):
    cannot = Backbone.from_pretrained(llava_folder, device="cpu")
    with pytest.raises(GcrError, match=r"no chat template.*choose a backbone such as .*SmolVLM"):
        next(write_captions(cannot, tiny_gallery, [0]))
    with pytest.raises(GcrError, match=r"no chat template.*choose a backbone that has, such as .*SmolVLM"):
        check_written(5, str(llava_folder))
    for count in (0, MAX_WRITTEN + 1):
        with pytest.raises(GcrError, match=f"{count} captions.*choose 1 to {MAX_WRITTEN}"):
            check_written(count, str(idefics3_folder))
    check_written(MAX_WRITTEN, str(idefics3_folder))


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        (" A dog runs.\n\nIt is happy.", "A dog runs"),
        ("The image shows a dog on a beach.", "A dog on a beach"),
        ("In this image, we can see two cats.", "Two cats"),
        ("This photograph depicts\ta red boat", "A red boat"),
        ('"**dog, beach, summer**"', "Dog, beach, summer"),
        ("- an image of a dog", "An image of a dog"),
        ("Is the image shows what?", "Is the image shows what?"),
        ("\n \n猫が寝ている", "猫が寝ている"),
        ("12 34 !!", ""),
        ("", ""),
        ("\ufffd\ufffda tree\x07", "A tree"),
    ],
)
def test_an_answer_is_tidied_into_a_caption(answer, caption):
    assert tidied(answer) == caption


def test_an_answer_that_broke_off_keeps_its_whole_sentences():
    assert BROKEN_OFF.sub(r"\1", "A dog runs. It is very hap") == "A dog runs."
    assert BROKEN_OFF.sub(r"\1", "a dog, a beach and a very la") == "a dog, a beach and a very la"
