"""Living memories: what is added is recalled at once and leaves the others alone; what is forgotten is gone."""

import json
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.errors import GalleryError, InputError, MemoryFormatError
from gcr_core.files.layout import QUERIES_FILE
from gcr_core.memory.incremental import KnownQueries
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tiny_memory_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_memory_dir, tmp_path / "memory")


@pytest.fixture
def memory(folder: Path) -> Memory:
    return Memory.from_pretrained(folder, device="cpu")


def picture(seed: int, side: int = 60) -> Image.Image:
    """Large blocks of random colours: unlike the drawn shapes, and unlike another seed's."""
    colours = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
    return Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST)


def first(memory: Memory, query: str | Image.Image, beams: int = 10) -> str:
    hits = memory.recall([query], 1, beams) if isinstance(query, str) else memory.recall_images([query], 1, beams)
    return hits[0][0].file_name


def everything(memory: Memory, query: str) -> list[tuple[str, float]]:
    return [(hit.file_name, hit.score) for hit in memory.recall([query], top=20, beams=20)[0]]


@pytest.mark.parametrize("beams", [1, 10])
def test_a_new_picture_is_recalled_at_once_from_itself_and_from_its_caption(memory: Memory, beams: int) -> None:
    (name,) = memory.add([("blocks.png", picture(0))], [["blocks of colour"]])
    assert name == "blocks.png"
    assert first(memory, picture(0), beams) == name
    assert first(memory, "blocks of colour", beams) == name
    assert memory.search("blocks of colour")["generative"][0]["identifier"] == "<img_12>"
    assert memory.dense.search_images([picture(0)], 1)[0][0][0] == 12


def test_what_the_gallery_was_asked_for_is_answered_as_before(memory: Memory) -> None:
    queries = [text for texts in memory.gallery.captions for text in texts]
    before = [first(memory, query) for query in queries]
    memory.add([("blocks.png", picture(0)), ("more.png", picture(1))], [["quick lazy fox"], []])
    assert [first(memory, query) for query in queries] == before


def test_only_the_common_norm_of_other_scores_changes(memory: Memory) -> None:
    before = dict(everything(memory, "a red bar"))
    memory.add([("blocks.png", picture(0))], [["quick lazy fox"]])
    after = dict(everything(memory, "a red bar"))
    differences = [after[name] - score for name, score in before.items()]
    assert differences == pytest.approx([differences[0]] * 12, abs=1e-4)


def test_a_saved_memory_recalls_what_was_added(memory: Memory, folder: Path) -> None:
    memory.add([("blocks.png", picture(0))], [["blocks of colour"]])
    memory.save(folder)
    loaded = Memory.from_pretrained(folder, device="cpu")
    assert everything(loaded, "gold") == everything(memory, "gold")
    assert first(loaded, "blocks of colour") == "blocks.png"
    assert loaded.gallery.open(12).size == (60, 60)
    assert loaded.gallery.captions[12] == ["blocks of colour"]
    assert loaded.facts == memory.facts
    assert loaded.changes == {"added": 1, "forgotten": 0, "captions": 0}


def test_queries_read_for_one_picture_are_kept_for_the_next(
    memory: Memory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.add([("blocks.png", picture(0))], [["blocks of colour"]])
    memory.save(folder)
    monkeypatch.setattr(KnownQueries, "read", None)
    loaded = Memory.from_pretrained(folder, device="cpu")
    loaded.add([("more.png", picture(1))], [["quick lazy fox"]])
    assert first(loaded, "quick lazy fox") == "more.png"
    assert first(loaded, "blocks of colour") == "blocks.png"


def test_a_damaged_file_of_queries_is_a_named_error(memory: Memory, folder: Path) -> None:
    memory.rehearse()
    memory.save(folder)
    (folder / QUERIES_FILE).write_bytes(b"nothing")
    with pytest.raises(MemoryFormatError, match=r"queries\.safetensors is cut off or damaged"):
        Memory.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
def test_every_identifier_type_takes_in_and_forgets(
    kind: str, llava_folder: Path, tiny_gallery: Gallery, tiny_clip_dir: Path, tmp_path: Path
) -> None:
    backbone = Backbone.from_pretrained(llava_folder, device="cpu")
    dense = DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")
    identifiers = Identifiers.build(kind, tiny_gallery, backbone.tokenizer, dense.vectors)
    memory = Memory(backbone, identifiers, tiny_gallery, dense)
    memory.add([("blocks.png", picture(0))], [["quick lazy fox"]])
    memory.forget(["gold-bar.png"])
    memory.save(tmp_path / "memory")
    for living in (memory, Memory.from_pretrained(tmp_path / "memory", device="cpu")):
        assert first(living, picture(0), 20) == first(living, "quick lazy fox", 20) == "blocks.png"
        assert len(everything(living, "a gold bar")) == 12
        assert "gold-bar.png" not in dict(everything(living, "a gold bar"))
        assert living.identifiers.parse("<img_12>", living.backbone.tokenizer) == 11


def test_the_dense_index_takes_captions_in_as_it_was_built(memory: Memory) -> None:
    memory.add([("one.png", picture(0)), ("two.png", picture(1))], [["blocks of colour"], []])
    for seed, image, captions in ((0, 12, ["blocks of colour"]), (1, 13, [])):
        expected = memory.dense.fused(memory.dense.embed_images([picture(seed)]), [captions])[0]
        assert np.allclose(memory.dense.vectors[image], expected, atol=1e-5)
    memory.add([("three.png", picture(0))], [["quick lazy fox"]])
    memory.consolidate()
    again = DenseIndex.build(memory.gallery, (memory.dense.model, memory.dense.processor))
    assert memory.gallery.captions[12] == ["blocks of colour", "quick lazy fox"]
    assert np.allclose(memory.dense.vectors, again.vectors, atol=1e-5)


def test_a_twin_need_not_be_the_nearest_image(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    nearest = DenseIndex.nearest

    def seventh(dense: DenseIndex, vectors: np.ndarray, top: int) -> list[list[tuple[int, float]]]:
        (hits,) = nearest(dense, vectors, 12)
        own = [hit for hit in hits if hit[0] == 4]
        return [([hit for hit in hits if hit[0] != 4][:6] + own)[:top]]

    monkeypatch.setattr(DenseIndex, "nearest", seventh)
    assert memory.add([("other.png", memory.gallery.open(4))], [[]]) == [memory.gallery.file_names[4]]


def test_names_are_made_safe_and_unique(memory: Memory) -> None:
    pictures = [("../red-bar.png", picture(0)), ("RED-BAR.png", picture(1)), ("a\nb", picture(2))]
    assert memory.add(pictures, [[], [], []]) == ["red-bar-2.png", "RED-BAR-3.png", "a_b.png"]


def test_a_picture_that_is_there_already_is_not_stored_twice(memory: Memory) -> None:
    again = memory.gallery.open(4)
    assert memory.add([("other.png", again)], [["a new caption"]]) == [memory.gallery.file_names[4]]
    assert len(memory.gallery) == 12
    assert memory.gallery.captions[4][-1] == "a new caption"
    memory.add([("other.png", again)], [["a new caption"]])
    assert memory.changes == {"added": 0, "forgotten": 0, "captions": 1}
    names = memory.add([("one.png", picture(0)), ("two.png", picture(0))], [["one"], ["two"]])
    assert names == ["one.png", "one.png"]
    assert memory.gallery.captions[12] == ["one", "two"]
    assert memory.changes == {"added": 1, "forgotten": 0, "captions": 1}


def test_a_caption_over_the_limit_adds_nothing(memory: Memory) -> None:
    with pytest.raises(InputError, match="a caption of 2,000 characters, the limit is 1,000"):
        memory.add([("a.png", picture(0)), ("b.png", picture(1))], [[], ["x" * 2000]])
    with pytest.raises(InputError):
        memory.add([("a.png", picture(0))], [])
    assert len(memory.gallery) == 12


@pytest.mark.parametrize("beams", [1, 2, 10, 1000])
def test_forgotten_images_are_never_returned_in_this_process_or_after_reload(
    memory: Memory, folder: Path, beams: int
) -> None:
    gone = ["red-circle.png", "gold-bar.png"]
    pictures = [memory.gallery.open(memory.gallery.index(name)) for name in gone]
    memory.forget(gone)
    memory.save(folder)
    for living in (memory, Memory.from_pretrained(folder, device="cpu")):
        answers = [living.search(query, 100, beams) for query in ("a red circle", "bar in gold", "dog")]
        answers += [living.search_image(asked, 100, beams) for asked in pictures]
        for answer in answers:
            for engine in ("generative", "dense"):
                assert not set(gone) & {hit["file_name"] for hit in answer[engine]}
            assert len(answer["dense"]) == 10
            assert len(answer["generative"]) == min(beams, 10)


def test_forgetting_leaves_no_picture_caption_vector_or_row_behind(memory: Memory, folder: Path) -> None:
    vector = memory.dense.vectors[memory.gallery.index("red-circle.png")]
    token = int(memory.identifiers.sequence(memory.gallery.index("red-circle.png"))[0])
    memory.rehearse()
    memory.forget(["red-circle.png"])
    memory.save(folder)
    names = {path.name for path in folder.rglob("*")}
    assert "red-circle.png" not in names and "red-bar.png" in names
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"a red circle" not in written and b"red-circle" not in written
    loaded = Memory.from_pretrained(folder, device="cpu")
    assert not (loaded.dense.vectors @ vector > 0.99999).any()
    assert not loaded.backbone.head()[0][token].any()
    assert not loaded.backbone.embed(torch.tensor([token])).any()
    assert len(loaded._known.owners) == 11 * 4
    assert loaded._known.owners.max() == 10


def test_forgetting_keeps_the_order_and_the_odds_of_the_others(memory: Memory) -> None:
    gone = ["red-circle.png", "blue-square.png"]
    before = [(name, score) for name, score in everything(memory, "a blue bar") if name not in gone]
    memory.forget(gone)
    after = everything(memory, "a blue bar")
    assert [name for name, _ in after] == [name for name, _ in before]
    differences = [new - old for (_, new), (_, old) in zip(after, before, strict=True)]
    assert differences == pytest.approx([differences[0]] * 10, abs=1e-4)
    assert np.exp([score for _, score in after]).sum() == pytest.approx(1, abs=1e-4)


def test_a_merged_name_forgets_its_image(memory: Memory) -> None:
    gallery = memory.gallery
    also = [["copy.png"] if name == "gold-bar.png" else [] for name in gallery.file_names]
    memory.gallery = Gallery(gallery.root, gallery.file_names, gallery.captions, also=also)
    memory.forget(["copy.png"])
    assert "gold-bar.png" not in memory.gallery.file_names
    with pytest.raises(GalleryError, match=r"'copy\.png' is not in the gallery of 11 images"):
        memory.gallery.index("copy.png")


def test_a_name_that_there_is_not_or_all_names_forget_nothing(memory: Memory) -> None:
    with pytest.raises(GalleryError, match=r"'nowhere\.png' is not in the gallery of 12 images"):
        memory.forget(["red-bar.png", "nowhere.png"])
    with pytest.raises(InputError, match="keeps at least 1 of its 12 images"):
        memory.forget(memory.gallery.file_names)
    memory.forget([])
    assert len(memory.gallery) == 12


def test_what_was_added_can_be_forgotten_and_its_name_and_picture_added_again(memory: Memory, folder: Path) -> None:
    memory.add([("blocks.png", picture(0))], [["blocks of colour"]])
    memory.forget(["blocks.png"])
    assert not any(memory.changes.values())
    assert memory.add([("blocks.png", picture(0))], [["blocks of colour"]]) == ["blocks.png"]
    assert first(memory, "blocks of colour") == "blocks.png"
    memory.save(folder)
    assert everything(Memory.from_pretrained(folder, device="cpu"), "dog") == everything(memory, "dog")


def test_searches_in_other_threads_go_on_while_a_memory_changes(memory: Memory) -> None:
    def ask(query: str) -> set[str]:
        answer = memory.search(query)
        return {hit["file_name"] for engine in ("generative", "dense") for hit in answer[engine]}

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, query) for query in ["dog", "red boat", "pizza"] * 10]
        for seed in range(4):
            (name,) = memory.add([(f"{seed}.png", picture(seed))], [[]])
            memory.forget([name, memory.gallery.file_names[0]])
            assert name not in ask("dog")
    known = {
        f"{colour}-{shape}.png" for colour in ("red", "green", "blue", "gold") for shape in ("circle", "square", "bar")
    }
    assert all(answer.result() <= known | {f"{seed}.png" for seed in range(4)} for answer in asked)


def test_another_process_keeps_its_memory_while_the_folder_is_exchanged(memory: Memory, folder: Path) -> None:
    reader = Memory.from_pretrained(folder, device="cpu")
    before = everything(reader, "a red circle")
    memory.forget(["red-circle.png"])
    memory.save(folder)
    assert everything(reader, "a red circle") == before
    assert len(Memory.from_pretrained(folder, device="cpu").gallery) == 11


def test_consolidation_trains_what_was_added_and_drops_what_was_forgotten(memory: Memory, folder: Path) -> None:
    memory.add([("blocks.png", picture(0))], [["quick lazy fox"]])
    memory.forget(["gold-bar.png"])
    assert memory.changes == {"added": 1, "forgotten": 1, "captions": 0}
    steps = []
    memory.consolidate(steps.append)
    assert [step.step for step in steps] == list(range(1, steps[-1].steps + 1))
    assert not any(memory.changes.values())
    assert first(memory, "quick lazy fox") == first(memory, picture(0)) == "blocks.png"
    assert "gold-bar.png" not in dict(everything(memory, "a gold bar"))
    memory.save(folder)
    assert (folder / QUERIES_FILE).exists(), "the next picture is added as quickly as the first"
    assert everything(Memory.from_pretrained(folder, device="cpu"), "dog") == everything(memory, "dog")


def test_describe_says_a_line_for_each_name(memory: Memory) -> None:
    names = ["gold-bar.png", "red-circle.png"]
    both = memory.describe(names)
    assert both == [memory.describe([name])[0] for name in names]
    assert all(isinstance(text, str) and "\n" not in text for text in both)
    with pytest.raises(GalleryError, match="nowhere"):
        memory.describe(["nowhere.png"])


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_commands_add_describe_and_forget(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(0).save(tmp_path / "lazy-fox.png")
    added = run(capsys, "add", folder, tmp_path / "lazy-fox.png")
    assert added == {"memory": str(folder), "added": ["lazy-fox.png"], "images": 13}
    assert run(capsys, "recall", "lazy fox", "--memory", folder)["generative"][0]["file_name"] == "lazy-fox.png"
    described = run(capsys, "describe", folder, "lazy-fox.png")
    assert list(described) == ["file_name", "description"]
    forgotten = run(capsys, "forget", folder, "lazy-fox.png", "gold-bar.png")
    assert forgotten == {"memory": str(folder), "forgotten": ["lazy-fox.png", "gold-bar.png"], "images": 11}
    assert run(capsys, "consolidate", folder) == {"memory": str(folder), "added": 0, "forgotten": 1, "captions": 0}
    assert len(run(capsys, "recall", "gold", "--memory", folder, "--beams", 50, "--top", 50)["generative"]) == 11


def test_without_changes_there_is_nothing_to_consolidate_and_nothing_is_written_or_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcr_core.memory.memory.Memory.load", lambda folder: pytest.fail("a model was loaded"))
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    assert run(capsys, "consolidate", folder) == {"memory": str(folder), "added": 0, "forgotten": 0, "captions": 0}
    assert main(["consolidate", str(folder)]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"{folder}: nothing to consolidate") and output.out.count("\n") == 1
    assert not output.err
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


def test_a_caption_given_to_add_is_recalled(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(0).save(tmp_path / "IMG_1234.png")
    assert main(["add", str(folder), str(tmp_path / "IMG_1234.png"), "--caption", "quick lazy fox"]) == 0
    assert 'IMG_1234.png: recalled as IMG_1234.png, by its picture and as "quick lazy fox"' in capsys.readouterr().out
    assert first(Memory.from_pretrained(folder, device="cpu"), "quick lazy fox") == "IMG_1234.png"
    assert main(["add", str(folder), str(tmp_path / "IMG_1234.png"), "--caption", "slow busy fox"]) == 0
    assert "is there already as IMG_1234.png; captions that are new to it are learnt by consolidate" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "nowhere", "PICTURE"), "no folder here"),
        (("add", "someone/memory", "PICTURE"), "no folder here"),
        (("add", "MEMORY", "nowhere.png"), "cannot be read"),
        (("forget", "MEMORY", "nowhere.png"), "not in the gallery of 12 images"),
        (("describe", "MEMORY", "nowhere.png"), "not in the gallery of 12 images"),
        (("forget", "TEXTS", "nowhere.png"), "is no memory"),
        (("add", "MEMORY"), "IMAGE"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(
    arguments: tuple[str, ...], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(random.randrange(100)).save(tmp_path / "p.png")
    paths = {"MEMORY": str(folder), "PICTURE": str(tmp_path / "p.png"), "TEXTS": str(tmp_path)}
    before = (folder / "memory.json").stat().st_mtime_ns
    status: object
    try:
        status = main([paths.get(argument, argument) for argument in arguments])
    except SystemExit as left:
        status = left.code
    output = capsys.readouterr()
    assert (status, output.out, output.err.count("\n")) == (2, "", 1)
    assert message in output.err
    assert (folder / "memory.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_two_commands_that_change_one_memory_at_once_both_count(folder: Path, tmp_path: Path) -> None:
    commands = []
    for seed in range(2):
        picture(seed).save(tmp_path / f"blocks-{seed}.png")
        command = [sys.executable, "-m", "gcr_core", "add", str(folder), str(tmp_path / f"blocks-{seed}.png")]
        commands.append(subprocess.Popen(command, cwd=ROOT))
    assert [command.wait() for command in commands] == [0, 0]
    names = Memory.from_pretrained(folder, device="cpu").gallery.file_names
    assert {"blocks-0.png", "blocks-1.png"} <= set(names)


def test_a_picture_has_no_more_captions_than_metadata_may_hold(memory: Memory, folder: Path) -> None:
    memory.add([("again.png", memory.gallery.open(0))], [[f"a caption {number}" for number in range(1000)]])
    assert len(memory.gallery) == 12
    assert memory.facts["captions"] == 22 + 1000
    memory.save(folder)
    assert len(Memory.from_pretrained(folder, device="cpu").gallery.captions[0]) == 1000
