"""Memorising by rows on cached states: where rows start, how they are levelled, what they learn, whole memories."""

import copy
import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from gcr_core.data.gallery import Gallery
from gcr_core.errors import HubError, MemoryFormatError
from gcr_core.files import hub as hub_module
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.models import backbone as backbone_module
from gcr_core.models import inspection as inspection_module
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import recall, score_all
from gcr_core.retrieval.dense import Embeddings
from gcr_core.retrieval.describe import describe
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.batches import Pairs, text_inputs
from gcr_core.training.config import Recipe, Training
from gcr_core.training.estimate import estimate
from gcr_core.training.features import FeatureCache
from gcr_core.training.levels import levels_of
from gcr_core.training.rows import (
    CLASS_NAMES,
    HOLD,
    HUBNESS,
    LOGIT,
    USUAL_SPREAD,
    Start,
    begin_rows,
    likeliest,
    memorize_rows,
    start_of,
)
from gcr_core.training.states import States
from tests import tiny_mini

pytestmark = pytest.mark.usefixtures("large")

IMAGES, WORDS = 12, 40
NAMED = ["red", "green", "blue", "gold", "circle", "square", "bar", "happy", "dog", "runs", "over", "boat", "cat"]
BARE = [0, 5, 8]
"""The images without captions in `half`."""


def picture(seed):
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(blocks).resize((48, 48), Image.Resampling.NEAREST)


def captioned(gallery, captions):
    return Gallery(gallery.root, gallery.file_names, captions)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory):
    """Pictures of random blocks, three captions each."""
    folder = tmp_path_factory.mktemp("blocks")
    for image in range(IMAGES):
        picture(image).save(folder / f"{image}.png")
    captions = []
    for image in range(IMAGES):
        one, two, three, four = (NAMED[(image + step) % len(NAMED)] for step in (0, 2, 5, 11))
        captions.append([f"{one} {two} {three} {four}", f"the {two} in {one} {four} {three}", f"{four} {one} of {two}"])
    return Gallery(folder, [f"{image}.png" for image in range(IMAGES)], captions)


@pytest.fixture(scope="session")
def bare(gallery):
    return captioned(gallery, [[] for _ in range(IMAGES)])


@pytest.fixture(scope="session")
def half(gallery):
    return captioned(gallery, [[] if image in BARE else texts for image, texts in enumerate(gallery.captions)])


@pytest.fixture(scope="session")
def states(mini, gallery):
    return States.read(mini, gallery)


@pytest.fixture(scope="session")
def llava(llava_folder):
    """A backbone without a joint space. For reading only."""
    return Backbone.from_pretrained(llava_folder, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def llava_states(llava, gallery):
    return States.read(llava, gallery)


def read_of(backbone, inputs):
    with torch.inference_mode():
        return backbone.hidden(**inputs)[0][:, -1]


def assert_close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def test_states_are_those_behind_each_caption_and_picture_alone(mini, gallery, states):
    texts = [text for captions in gallery.captions for text in captions]
    assert list(states.texts) == texts and states.of_texts.shape == (36, 56)
    for text in texts[::7]:
        (row,) = states.rows([text]).tolist()
        assert_close(states.of_texts[row], read_of(mini, text_inputs(mini, [text]))[0])
    assert states.of_pictures.shape == (1, IMAGES, 56)
    for image in (0, 7):
        assert_close(states.of_pictures[0, image], read_of(mini, mini.image_inputs([gallery.open(image)]))[0])


def test_each_caption_is_read_once_and_counted_to_the_last(mini, gallery, monkeypatch):
    monkeypatch.setattr("gcr_core.training.states.READ_TOGETHER", 4)
    shared = captioned(gallery, [["red", "a happy dog runs over the boat"], *[["red", "blue cat"]] * 11])
    told = []
    states = States.read(mini, shared, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)] and list(states.texts) == ["red", "a happy dog runs over the boat", "blue cat"]
    told.clear()
    many = captioned(gallery, [[*texts, "red"] for texts in gallery.captions])
    whole = States.read(mini, many, on_progress=lambda done, total: told.append((done, total)))
    assert told[0] == (4, 37) and told[-1] == (37, 37) and [done for done, _ in told] == sorted({d for d, _ in told})
    red = [some.of_texts[some.texts["red"]] for some in (states, whole)]
    assert_close(*red)


def test_a_listener_that_raises_stops_the_reading(mini, gallery):
    def stop(done, total):
        raise StopError

    with pytest.raises(StopError):
        States.read(mini, gallery, on_progress=stop)


def test_states_without_any_caption_are_of_pictures_alone(mini, bare, states):
    read = States.read(mini, bare)
    assert read.of_texts.shape == (0, 56) and not read.texts and not len(read.rows([]))
    assert_close(read.of_pictures, states.of_pictures)


def test_features_have_a_state_for_each_view(llava, gallery, llava_states, tmp_path):
    features = FeatureCache.compute(llava, gallery, 3, 0, tmp_path)
    states = States.read(llava, gallery, features)
    assert states.of_pictures.shape == (3, IMAGES, 32)
    assert_close(states.of_pictures[0], llava_states.of_pictures[0], atol=0.05)
    assert not torch.allclose(states.of_pictures[1], states.of_pictures[0], atol=0.05)
    assert_close(states.of_texts, llava_states.of_texts)


def test_a_row_starts_as_what_its_captions_say_and_what_its_picture_shows(mini, gallery, states):
    start = Start.of(mini, states, gallery.captions)
    assert start.rows.shape == (IMAGES, 56) and start.counts.tolist() == [3.0] * IMAGES
    for image in (0, 11):
        said = states.of_texts[states.rows(gallery.captions[image])].clone()
        shown = states.of_pictures[0, image].clone()
        said[:, -1] = shown[-1] = 0.0
        assert_close(start.rows[image], normalize(said.mean(0), dim=0) + shown)
    assert not start.rows[:, -1].any(), "the constant is for biases"
    assert_close(start_of(mini, states, gallery.captions), LOGIT * start.rows)


def test_a_caption_left_out_of_its_row_is_a_row_made_of_the_others(mini, gallery, states):
    captions = [list(texts) for texts in gallery.captions]
    captions[3], captions[4] = captions[3][:1], captions[3][:2]  # one alone, and the same one beside another
    start = Start.of(mini, states, captions)
    for image, text in ((0, captions[0][1]), (11, captions[11][2]), (4, captions[4][0])):
        asked = states.of_texts[states.rows([text])]
        left = [
            [other for other in captions[image] if other != text] if i == image else c for i, c in enumerate(captions)
        ]
        rows = Start.of(mini, states, left).rows
        lost = start.without(torch.tensor([[image]]), asked)
        assert_close(lost[0, 0], (rows[image] - start.rows[image]) @ asked[0], atol=1e-4)
        assert lost < 0, "a row says less of a caption that it was not made of"


def test_the_only_caption_of_an_image_stays_in_its_row(mini, gallery, states):
    captions = [texts[:1] for texts in gallery.captions]
    start = Start.of(mini, states, captions)
    asked = states.of_texts[states.rows([captions[2][0], captions[3][0]])]
    assert not start.without(torch.tensor([[2], [3]]), asked).any()


def scores_of_phrases(backbone, rows):
    """The mean and the spread of everyday phrases' scores for rows (n, state)."""
    words = rows[:, :WORDS]
    spread = torch.stack([row @ backbone.phrase_covariance @ row for row in words]).sqrt()
    return words @ backbone.phrase_mean + rows[:, -1], spread


def test_images_without_captions_among_captioned_ones_are_as_likely_for_everyday_phrases(mini, half, states):
    start = Start.of(mini, states, half.captions)
    means, spreads = scores_of_phrases(mini, start.rows)
    has = torch.tensor([image not in BARE for image in range(IMAGES)])
    level = means + HUBNESS * spreads
    assert_close(level[~has], level[has].mean().expand(len(BARE)), atol=1e-4)
    assert_close(spreads[~has].mean(), spreads[has].mean(), atol=1e-4)
    assert level[has].std() > 1e-3, "those with captions stay as they are"


def test_images_without_captions_are_found_by_the_words_of_their_albums_names(mini, half, states):
    albums = ["Night_city/2021" if image % 2 else "DCIM/100APPLE" for image in range(IMAGES)]
    labelled = Gallery(half.root, half.file_names, half.captions, albums=albums)
    read = States.read(mini, labelled)
    assert_close(read.of_pictures, states.of_pictures)
    plain, named = (start_of(mini, of, half.captions) for of in (states, read))
    bare = torch.zeros(IMAGES, dtype=torch.bool)
    bare[list(BARE)] = True
    assert torch.equal(plain[~bare], named[~bare]), "a caption says more"
    in_album = bare & torch.tensor([image % 2 == 1 for image in range(IMAGES)])
    (asked,) = read_of(mini, text_inputs(mini, ["night city"]))
    gained = (named - plain).detach() @ asked
    assert gained[in_album].min() > gained[bare & ~in_album].max()


def test_what_a_picture_shows_is_scaled_in_its_words_and_kept_in_its_look(mini, half, states):
    start, shown = Start.of(mini, states, half.captions), states.of_pictures[0, BARE]
    rows = start.rows[BARE]
    factors = rows[:, :WORDS] / start.seen[BARE, :WORDS]
    assert_close(factors, factors[:, :1].expand_as(factors), atol=0.05)
    assert (factors > 0).all()
    assert_close(rows[:, WORDS:-1], shown[:, WORDS:-1])


def test_names_of_classes_count_less_than_classes_in_the_row_of_an_image_without_captions(mini, half, states):
    seen, shown = Start.of(mini, states, half.captions).seen, states.of_pictures[0]
    said = mini.hidden_size
    has = [image for image in range(IMAGES) if image not in BARE]
    assert_close(seen[BARE, :said], CLASS_NAMES * shown[BARE, :said])
    assert_close(seen[BARE, said:-1], shown[BARE, said:-1])
    assert_close(seen[has, :-1], shown[has, :-1])


def test_images_of_a_gallery_without_any_caption_are_all_as_likely(mini, bare, states):
    start = Start.of(mini, states, bare.captions)
    means, spreads = scores_of_phrases(mini, start.rows)
    assert_close(means + HUBNESS * spreads, torch.zeros(IMAGES))
    assert spreads.mean().item() == pytest.approx(USUAL_SPREAD, abs=1e-4)
    assert not start.counts.any() and not start.sums.any()


def test_one_image_alone_has_a_row_of_numbers(mini, gallery):
    for captions in ([[]], [["red"]]):
        one = Gallery(gallery.root, gallery.file_names[:1], captions)
        assert start_of(mini, States.read(mini, one), captions).isfinite().all()


class StopError(Exception):
    """Ends a training before its end."""


def memorized(folder, gallery, training, states, checkpoint=None, on_step=lambda step: None, last=None, kind="atomic"):
    """A backbone that memorised a gallery by rows; `last`: the captions of the stage "finish"."""
    backbone = Backbone.from_pretrained(folder, device="cpu", dtype=torch.float32)
    backbone.adapt(lora=False)
    vectors = states.of_pictures[0].numpy()
    identifiers = Identifiers.build(kind, gallery, backbone.tokenizer, vectors).by_place(backbone.tokenizer)
    begin_rows(backbone, states, identifiers, gallery.captions)
    last = last or gallery.captions
    pairs, last_pairs = (Pairs.from_captions(some) if any(some) else None for some in (gallery.captions, last))
    memorize_rows(backbone, gallery, identifiers, pairs, training, on_step, last_pairs, checkpoint, states, last)
    return backbone


def rows_of(backbone):
    return backbone.new_rows.said.detach().clone()


def ranks(backbone, asked):
    """The image whose row likes each state (n, state) best."""
    return (asked @ rows_of(backbone).T).argmax(1).tolist()


LONG = Training(0, 0, 80, 20, queries=36, pictures=12, pictures_every=3, descriptions_every=0, trained="rows")


@pytest.fixture(scope="session")
def learnt(mini_folder, gallery, states):
    """One that learnt the whole gallery, for reading only, and its steps."""
    steps = []
    return memorized(mini_folder, gallery, LONG, states, on_step=steps.append), steps


def test_what_was_memorised_is_found_by_its_own_picture_and_captions(learnt, gallery, states):
    backbone, steps = learnt
    assert ranks(backbone, states.of_pictures[0]) == list(range(IMAGES))
    owners = [image for image, texts in enumerate(gallery.captions) for _ in texts]
    assert ranks(backbone, states.of_texts) == owners
    assert [step.step for step in steps] == list(range(1, 101))
    assert {step.task for step in steps} == {"pictures", "queries"}
    assert {step.stage for step in steps} == {"retrieve", "finish"}
    assert all(np.isfinite(step.loss) and 0 <= step.memorized <= 1 for step in steps)
    assert not backbone.model.training


def test_nothing_but_the_rows_that_the_head_reads_is_trained(learnt, mini, gallery, states):
    backbone, _ = learnt
    start = start_of(mini, states, gallery.captions)
    assert torch.equal(backbone.new_rows.embedded, start[:, :32])
    assert not torch.equal(rows_of(backbone), start)
    assert (rows_of(backbone) - start).norm() < HOLD * start.norm(), "rows are held near where they started"
    ours, theirs = backbone.model.state_dict(), mini.model.state_dict()
    name = "model.language_model.tokens"
    moved = {f"{name}.codes": f"{name}.embedding.codes", f"{name}.scales": f"{name}.embedding.scales"}
    assert all(torch.equal(weight, ours[moved.get(name, name)]) for name, weight in theirs.items())


def test_pictures_change_nothing_of_what_rows_say_of_words(mini_folder, mini, gallery, states):
    training, words = Training(20, 0, 0, pictures=12, trained="rows"), len(mini.phrase_mean)
    rows = rows_of(memorized(mini_folder, gallery, training, states))
    start = start_of(mini, states, gallery.captions)
    assert torch.equal(rows[:, :words], start[:, :words]) and torch.equal(rows[:, -1], start[:, -1])
    assert not torch.equal(rows, start)
    assert torch.equal(states.of_texts @ rows.T, states.of_texts @ start.T)


def test_the_same_seed_gives_the_same_rows_and_another_one_others(mini_folder, gallery, states):
    few = copy.deepcopy(gallery.captions)
    small = captioned(gallery, few)
    training = Training(0, 0, 8, 2, queries=8, pictures=6, pictures_every=3, descriptions_every=0, trained="rows")
    first, again = (rows_of(memorized(mini_folder, small, training, states)) for _ in range(2))
    random.seed(9), torch.manual_seed(9)
    assert torch.equal(rows_of(memorized(mini_folder, small, training, states)), first) and torch.equal(first, again)
    other = Training(0, 0, 8, 2, queries=8, pictures=6, pictures_every=3, descriptions_every=0, trained="rows", seed=1)
    assert not torch.equal(rows_of(memorized(mini_folder, small, other, states)), first)


@pytest.mark.parametrize(("stop_after", "kind"), [(3, "atomic"), (8, "atomic"), (9, "atomic"), (7, "structured")])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    stop_after, kind, deep, mini_folder, gallery, states, tmp_path
):
    """Step 8 is the last one before the captions that were held out come in."""
    kept = captioned(gallery, [texts[:2] for texts in gallery.captions])
    training = Training(0, 0, 8, 4, queries=8, pictures=6, pictures_every=3, descriptions_every=0, trained="rows")

    def stop(step):
        if step.step == stop_after:
            raise StopError

    whole = []
    expected = rows_of(
        memorized(mini_folder, kept, training, states, on_step=whole.append, last=gallery.captions, kind=kind)
    )
    with pytest.raises(StopError):
        memorized(mini_folder, kept, training, states, tmp_path, stop, gallery.captions, kind)
    steps = []
    found = memorized(mini_folder, kept, training, states, tmp_path, steps.append, gallery.captions, kind)
    assert [step.step for step in steps] == list(range(stop_after + 1, 13))
    assert steps == whole[stop_after:]
    assert torch.equal(rows_of(found), expected)


def test_codes_of_several_images_start_as_their_mean_and_more_likely_than_each(deep, mini_folder, gallery, states):
    backbone = memorized(mini_folder, gallery, Training(1, 0, 0), states, kind="structured")
    start, trie = start_of(backbone, states, gallery.captions), trie_of(backbone, states, gallery)
    begin_rows(backbone, states, identifiers_of(backbone, states, gallery), gallery.captions)
    (first, *_), rows = levels_of(backbone, trie), rows_of(backbone)
    for code, row in enumerate(first.rows.tolist()):
        below = (first.codes == code).nonzero()[:, 0]
        assert len(below) == first.counts[code]
        expected = start[below].mean(0)
        expected[-1] += np.log(len(below))
        assert_close(rows[row], expected, atol=1e-4)


def test_a_state_recalls_first_what_a_search_does(deep, mini_folder, gallery, states):
    backbone = memorized(mini_folder, gallery, LONG, states, kind="semantic")
    trie = trie_of(backbone, states, gallery, "semantic")
    texts = [texts[0] for texts in gallery.captions]
    images, log_p = likeliest(backbone, trie, states.of_texts[states.rows(texts)])
    found = recall(backbone, trie, backbone.query_prompts(texts), beams=IMAGES, top=1)
    assert torch.equal(images, found.images[:, 0])
    assert_close(log_p, found.scores[:, 0], atol=1e-4)


def identifiers_of(backbone, states, gallery, kind="structured"):
    """Those of `memorized`."""
    fresh = copy.deepcopy(backbone.tokenizer)
    made = Identifiers.build(kind, gallery, fresh, states.of_pictures[0].numpy()).by_place(fresh)
    return Identifiers(
        kind,
        made.indptr,
        made.tokens - made.vocabulary + backbone.own_vocabulary,
        backbone.new_tokens,
        backbone.own_vocabulary,
    )


def trie_of(backbone, states, gallery, kind="structured"):
    made = identifiers_of(backbone, states, gallery, kind)
    return IdentifierTrie.build(made.indptr, made.tokens)


def test_captions_held_out_move_the_rows_once_they_come_in(mini_folder, mini, gallery, states):
    kept = captioned(gallery, [texts[:2] for texts in gallery.captions])
    training = Training(0, 0, 1, 1, queries=8, pictures=6, pictures_every=3, descriptions_every=0, trained="rows")
    with_rest = rows_of(memorized(mini_folder, kept, training, states, last=gallery.captions))
    without = rows_of(memorized(mini_folder, kept, training, states))
    moved = start_of(mini, states, gallery.captions) - start_of(mini, states, kept.captions)
    assert moved.norm(dim=1).min() > 0.1
    assert_close(with_rest - without, moved, atol=0.1)


def test_a_caption_of_several_images_asks_for_each_of_them(mini_folder, gallery):
    captions = [texts[:1] for texts in gallery.captions]
    for image in (2, 9):
        captions[image].append("sleeping cat runs")
    shared = captioned(gallery, captions)
    states = States.read(Backbone.from_pretrained(mini_folder, device="cpu", dtype=torch.float32), shared)
    backbone = memorized(mini_folder, shared, LONG, states)
    scores = rows_of(backbone) @ states.of_texts[states.texts["sleeping cat runs"]]
    assert set(scores.topk(2).indices.tolist()) == {2, 9}


def test_a_gallery_without_any_caption_is_learnt_by_its_pictures(mini_folder, bare, mini):
    states, steps = States.read(mini, bare), []
    backbone = memorized(
        mini_folder, bare, Training(20, 0, 0, pictures=12, trained="rows"), states, on_step=steps.append
    )
    assert ranks(backbone, states.of_pictures[0]) == list(range(IMAGES))
    assert {(step.stage, step.task) for step in steps} == {("memorise", "pictures")}


def test_half_captioned_galleries_are_found_by_captions_and_pictures(mini_folder, half, states):
    backbone = memorized(mini_folder, half, LONG, states)
    asked = [(text, image) for image, texts in enumerate(half.captions) for text in texts]
    captioned = [image for image, texts in enumerate(half.captions) if texts]
    scores = states.of_texts[states.rows([text for text, _ in asked])] @ backbone.new_rows.said.detach().T
    found = [captioned[place] for place in scores[:, captioned].argmax(1).tolist()]
    assert found == [image for _, image in asked]
    shown = states.of_pictures[0] @ backbone.new_rows.said.detach().T
    for some in (captioned, [image for image in range(IMAGES) if image not in captioned]):
        assert shown[some][:, some].argmax(1).tolist() == list(range(len(some)))  # random eyes see all much alike


def made(gallery, mini_folder, clip, out, **more):
    told = []
    recipe = Recipe(backbone=str(mini_folder), clip=str(clip), **{"preset": "quick"} | more)
    return make_memory(gallery, recipe, out, told.append), told


def firsts(memory, asked):
    hits = memory.recall(asked, top=1) if isinstance(asked[0], str) else memory.recall_images(asked, top=1)
    return [hit[0].index for hit in hits]


def test_a_clip_that_is_the_backbone_takes_its_vectors_from_what_that_has_read_and_seen(gallery, tmp_path):
    folder = tiny_mini.save_mini(tmp_path / "mini")
    clip = tiny_mini.save_sharing_clip(tmp_path / "mini-clip", folder)
    report, told = made(gallery, folder, clip, tmp_path / "memory")
    assert "dense" not in {progress.stage for progress in told}
    vectors = Embeddings.read(gallery, clip, "cpu")
    dense = Memory.from_pretrained(tmp_path / "memory", device="cpu").dense
    np.testing.assert_allclose(dense.vectors, vectors.index(gallery.captions).vectors, atol=0.01)
    assert report["dense"]["memorized"] == 1.0


def test_a_memory_of_rows_is_made_saved_and_opened(gallery, mini_folder, tiny_clip_dir, tmp_path):
    report, told = made(gallery, mini_folder, tiny_clip_dir, tmp_path / "memory")
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert [stage for stage in stages if stage != "memorise"] == [
        "prepare",
        "look",
        "read",
        "dense",
        "retrieve",
        "measure",
        "save",
    ]
    read = [progress for progress in told if progress.stage == "read"]
    assert read[-1].looked == read[-1].looks == 36
    assert report["images"] == IMAGES and report["captions"] == 36 and report["held_out"] == 12
    assert report["memorized"] == 1.0 and 0 <= report["retrieved"] <= 1
    assert 0 <= report["dense"]["retrieved"] <= 1
    assert {path.name for path in (tmp_path / "memory" / "model").iterdir()} == {"rows.safetensors"}
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert memory.facts["backbone"] == {"name": str(mini_folder), "revision": None}
    assert memory.facts["training"] == json.loads(json.dumps(report))
    assert firsts(memory, [gallery.open(image) for image in range(IMAGES)]) == list(range(IMAGES))
    texts = [text for captions in gallery.captions for text in captions]
    owners = [image for image, captions in enumerate(gallery.captions) for _ in captions]
    right = np.mean([found == owner for found, owner in zip(firsts(memory, texts), owners, strict=True)])
    assert report["trained_captions"] == pytest.approx(right, abs=1e-4) and right >= 0.8
    assert memory._known is not None, "the first picture is added as quickly as the next"
    again, _ = made(gallery, mini_folder, tiny_clip_dir, tmp_path / "again")
    timed = {"seconds", "dense_seconds"}
    assert {name: again[name] for name in again.keys() - timed} == {
        name: report[name] for name in report.keys() - timed
    }
    rows = [(tmp_path / name / "model" / "rows.safetensors").read_bytes() for name in ("memory", "again")]
    assert rows[0] == rows[1]


def test_a_memory_without_any_caption_is_made_and_answers_words(bare, mini_folder, tiny_clip_dir, tmp_path):
    report, told = made(bare, mini_folder, tiny_clip_dir, tmp_path / "memory")
    assert "memorise" in {progress.stage for progress in told}
    assert report["captions"] == report["held_out"] == 0
    assert report["trained_captions"] is report["retrieved"] is None
    assert any("12 of 12 images have no caption" in line for line in report["remarks"])
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    own = firsts(memory, [bare.open(image) for image in range(IMAGES)])
    right = np.mean([found == image for image, found in enumerate(own)])
    assert report["memorized"] == pytest.approx(right, abs=0.1) and right >= 0.8
    hits = memory.recall(["a happy dog"], top=IMAGES, beams=IMAGES)[0]
    assert len(hits) == IMAGES and hits[0].score < -0.01, "nobody can be sure of a picture that no word tells of"


@pytest.fixture
def deep(monkeypatch):
    """Structured identifiers of a small gallery have several tokens."""
    monkeypatch.setattr("gcr_core.retrieval.identifiers.BRANCHES", 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["structured", "numeric", "string", "semantic"])
def test_identifiers_of_several_tokens_are_memorised_by_rows_too(
    kind, deep, gallery, mini_folder, tiny_clip_dir, tmp_path
):
    report, _ = made(gallery, mini_folder, tiny_clip_dir, tmp_path / "memory", identifiers=kind, preset="balanced")
    assert report["memorized"] == 1.0 and report["trained_captions"] >= 0.8
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert not memory.backbone.has_lora
    assert memory.trie.depth > 1 or kind in ("string", "semantic"), "the tokens of a path without a branch are one"
    assert firsts(memory, [gallery.open(image) for image in range(IMAGES)]) == list(range(IMAGES))
    prompts = memory.backbone.query_prompts(["a happy dog", "red circle"])
    found = recall(memory.backbone, memory.trie, prompts, beams=IMAGES, top=IMAGES)
    scores = torch.stack([score_all(memory.backbone, memory.trie, prompt) for prompt in prompts])
    assert_close(found.scores, scores.gather(1, found.images), atol=1e-4)
    assert_close(scores.exp().sum(1), torch.ones(2), atol=1e-4)
    assert memory.describe(["3.png"]) == describe(memory.backbone, [[memory.identifiers.sequence(3)[-1]]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["structured", "semantic"])
@pytest.mark.parametrize("captions", [2, 0])
def test_memories_of_several_tokens_an_image_live(kind, captions, deep, gallery, mini_folder, tiny_clip_dir, tmp_path):
    some = captioned(gallery, [texts[:captions] for texts in gallery.captions])
    made(some, mini_folder, tiny_clip_dir, tmp_path / "memory", identifiers=kind)
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    memory.add([("new.png", picture(99))], [["gold boat", "a boat in gold"]])
    assert firsts(memory, ["gold boat", "a boat in gold", "boat of gold"]) == [12, 12, 12]
    assert firsts(memory, [picture(99)]) == [12]
    memory.forget(["3.png"])
    living = _saved(memory, tmp_path / "memory")
    hits = living.recall(["bar over"], top=20, beams=20)[0]
    assert "3.png" not in {hit.file_name for hit in hits} and len(hits) == IMAGES
    living.consolidate()
    left = [image for image in range(IMAGES) if image != 3]
    for memory in (living, _saved(living, tmp_path / "memory")):
        own = firsts(memory, [*map(gallery.open, left), picture(99)])
        assert own[-1] == 11
        assert not captions or np.mean([found == image for image, found in enumerate(own)]) >= 0.9
        assert firsts(memory, ["gold boat"]) == [11] and not memory.backbone.has_lora


def test_an_estimate_has_seconds_for_every_preset_with_and_without_captions(gallery, bare, mini_folder, tiny_clip_dir):
    for some in (gallery, bare):
        for kind in ("atomic", "numeric"):
            recipe = Recipe(backbone=str(mini_folder), clip=str(tiny_clip_dir), identifiers=kind)
            seconds = estimate(some, recipe)
            assert 0 < seconds["quick"] < seconds["balanced"] < seconds["thorough"]


@pytest.fixture(scope="session")
def memory_dir(gallery, mini_folder, tiny_clip_dir, tmp_path_factory):
    """A memory of rows. For reading only."""
    folder = tmp_path_factory.mktemp("rows") / "memory"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone_module, "SMALL_PARAMETERS", 0)
        patch.setattr(inspection_module, "SMALL_PARAMETERS", 0)
        patch.setattr(inspection_module, "does_bfloat16", lambda device: False)
        made(captioned(gallery, [texts[:2] for texts in gallery.captions]), mini_folder, tiny_clip_dir, folder)
    return folder


@pytest.fixture
def memory(memory_dir):
    return Memory.from_pretrained(memory_dir, device="cpu")


def test_what_is_added_is_found_and_what_is_forgotten_is_not(memory, gallery, tmp_path):
    memory.add([("new.png", picture(99))], [["gold boat", "a boat in gold"]])
    assert firsts(memory, ["gold boat", "a boat in gold", "boat of gold"]) == [12, 12, 12]
    assert firsts(memory, [picture(99)]) == [12]
    memory.forget(["3.png"])
    for living in (memory, _saved(memory, tmp_path / "memory")):
        assert firsts(living, ["gold boat"]) == firsts(living, [picture(99)]) == [11]
        names = {hit.file_name for hit in living.recall(gallery.captions[3][:1], top=20, beams=20)[0]}
        assert "3.png" not in names and len(names) == IMAGES


def test_a_picture_added_without_captions_takes_nobody_elses_queries(memory, gallery):
    asked = [text for texts in memory.gallery.captions for text in texts]
    shown = [gallery.open(image) for image in range(IMAGES)]
    before = firsts(memory, asked), firsts(memory, shown)
    memory.add([("bare.png", picture(98)), ("barer.png", picture(97))], [[], []])
    assert firsts(memory, [picture(98), picture(97)]) == [12, 13]
    assert (firsts(memory, asked), firsts(memory, shown)) == before


def test_consolidating_begins_the_rows_of_all_images_anew(memory, gallery, tmp_path):
    memory.add([("new.png", picture(99)), ("bare.png", picture(98))], [["gold boat", "a boat in gold"], []])
    memory.forget(["3.png"])
    steps = []
    memory.consolidate(steps.append)
    assert [step.step for step in steps] == list(range(1, steps[-1].steps + 1))
    assert not any(memory.changes.values())
    assert not memory.backbone.has_lora
    left = [image for image in range(IMAGES) if image != 3]
    for living in (memory, _saved(memory, tmp_path / "memory")):
        assert firsts(living, [*map(gallery.open, left), picture(99), picture(98)]) == list(range(13))
        assert firsts(living, ["gold boat", "a boat in gold"]) == [11, 11]
        assert "3.png" not in {hit.file_name for hit in living.recall(["bar over"], top=20, beams=20)[0]}
        assert living.facts["captions"] == 24


def test_a_memory_without_captions_is_consolidated(bare, mini_folder, tiny_clip_dir, tmp_path):
    made(bare, mini_folder, tiny_clip_dir, tmp_path / "memory")
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    memory.add([("new.png", picture(99))], [[]])
    memory.forget(["3.png"])
    memory.consolidate()
    assert firsts(memory, [picture(99)]) == [11] and len(memory.gallery) == IMAGES


def _saved(memory, folder):
    memory.save(folder)
    return Memory.from_pretrained(folder, device="cpu")


def test_describing_says_the_caption_that_recalls_the_image(memory):
    names = memory.gallery.file_names
    said = memory.describe(names)
    own = [text in memory.gallery.captions[image] for image, text in enumerate(said)]
    assert np.mean(own) > 0.9


def test_an_image_whose_row_says_nothing_is_described_by_a_caption_of_its_own(memory):
    for texts in memory.gallery.captions[:-1]:
        texts.clear()
    with torch.no_grad():
        memory.backbone.new_rows.said.zero_()
    assert memory.describe(["11.png"])[0] in memory.gallery.captions[11]


def test_describing_an_image_without_captions_says_what_is_seen_or_nothing(memory):
    memory.gallery.captions[0].clear()
    assert set(memory.describe(["0.png"])[0].split(", ")) <= {""} | {f"word {n}" for n in range(10)}


def test_a_memory_whose_backbone_is_gone_says_how_to_go_on(memory_dir, mini_folder, tmp_path):
    folder = _copied(memory_dir, tmp_path)
    facts = json.loads((folder / "memory.json").read_text())
    facts["backbone"]["name"] = str(tmp_path / "gone")
    (folder / "memory.json").write_text(json.dumps(facts))
    with pytest.raises(HubError, match=r"needs its backbone '.*gone'.*backbone\.name"):
        Memory.from_pretrained(folder)
    facts["backbone"]["name"] = str(mini_folder)
    (folder / "memory.json").write_text(json.dumps(facts))
    assert len(Memory.from_pretrained(folder).gallery) == IMAGES


def _copied(memory_dir, folder):
    return _saved(Memory.from_pretrained(memory_dir, device="cpu"), folder / "copy") and folder / "copy"


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """The folder `checkpoints/` of a project elsewhere, with a gcr-mini."""
    monkeypatch.setattr(hub_module, "ROOT", tmp_path)
    return tiny_mini.save_mini(tmp_path / "checkpoints" / "tiny-mini")


def test_a_memory_of_a_gcr_mini_that_ships_names_it_and_refuses_another_one(shipped, gallery, tiny_clip_dir, tmp_path):
    made(gallery, shipped, tiny_clip_dir, tmp_path / "memory")
    facts = json.loads((tmp_path / "memory" / "memory.json").read_text())
    assert facts["backbone"]["name"] == "checkpoints/tiny-mini" and len(facts["backbone"]["revision"]) == 64
    assert firsts(Memory.from_pretrained(tmp_path / "memory"), [gallery.open(4)]) == [4]
    tiny_mini.save_mini(shipped, seed=1)
    with pytest.raises(MemoryFormatError, match=r"another checkpoints/tiny-mini than the one here.*memorise"):
        Memory.from_pretrained(tmp_path / "memory")
