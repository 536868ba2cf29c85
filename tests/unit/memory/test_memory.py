"""Memories: recall, search, what they accept, saving and loading."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.errors import HubError, InputError, MemoryFormatError
from gcr_core.memory import memory as memory_module
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.beam_search import score_all
from gcr_core.retrieval.query import MAX_BEAMS, MAX_QUERY_CHARACTERS, MAX_TOP


def answers(memory: Memory, query: str = "a red circle") -> list[str]:
    return [hit["file_name"] for hit in memory.search(query)["generative"]]


def test_search_answers_with_both_engines_in_the_documented_shape(tiny_memory: Memory) -> None:
    answer = tiny_memory.search("a happy dog", top=3)
    assert list(answer) == ["query", "generative", "dense", "latency_ms"]
    assert answer["query"] == "a happy dog"
    assert [list(hit) for hit in answer["generative"]] == [["rank", "file_name", "score", "identifier"]] * 3
    assert [list(hit) for hit in answer["dense"]] == [["rank", "file_name", "score"]] * 3
    assert list(answer["latency_ms"]) == ["generative", "dense"]
    for engine in ("generative", "dense"):
        scores = [hit["score"] for hit in answer[engine]]
        assert [hit["rank"] for hit in answer[engine]] == [1, 2, 3]
        assert scores == sorted(scores, reverse=True)
        assert all(hit["file_name"] in tiny_memory.gallery.file_names for hit in answer[engine])
        assert answer["latency_ms"][engine] == round(answer["latency_ms"][engine], 2) > 0
    assert json.loads(json.dumps(answer)) == answer


def test_scores_are_the_log_probabilities_of_the_identifiers(tiny_memory: Memory) -> None:
    scores = score_all(tiny_memory.backbone, tiny_memory.trie, tiny_memory.backbone.query_prompts(["gold"])[0])
    (hits,) = tiny_memory.recall(["gold"], top=12, beams=12)
    assert [hit.index for hit in hits] == scores.argsort(descending=True).tolist()
    assert [hit.score for hit in hits] == pytest.approx(scores.sort(descending=True).values.tolist(), abs=1e-4)


def test_identifiers_are_text_that_names_the_image(tiny_memory: Memory) -> None:
    tokenizer = tiny_memory.backbone.tokenizer
    for hit in tiny_memory.recall(["gold"])[0]:
        assert tiny_memory.gallery.file_names[hit.index] == hit.file_name
        assert tiny_memory.identifiers.parse(hit.identifier, tokenizer) == hit.index


def test_a_batch_recalls_what_each_query_recalls_alone(tiny_memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = ["dog", "a sleeping cat in bed", "red boat", "pizza", "a lazy fox"]
    alone = [tiny_memory.recall([query])[0] for query in queries]
    monkeypatch.setattr(memory_module, "MAX_BEAMS_TOGETHER", 20)
    together = tiny_memory.recall(queries)
    assert [[hit.file_name for hit in hits] for hits in together] == [[hit.file_name for hit in hits] for hits in alone]
    assert tiny_memory.recall([]) == []


def test_a_picture_is_a_query_too(tiny_memory: Memory) -> None:
    picture = tiny_memory.gallery.open(5)
    answer = tiny_memory.search_image(picture, top=4)
    assert answer["query"] is None
    assert [hit["file_name"] for hit in answer["generative"]] == [
        hit.file_name for hit in tiny_memory.recall_images([picture], top=4)[0]
    ]
    assert answer["dense"][0]["file_name"] == tiny_memory.gallery.file_names[5]


def test_trace_lists_the_beams_of_each_step(tiny_memory: Memory) -> None:
    answer = tiny_memory.search("gold", trace=True, beams=5)
    (step,) = answer["trace"]
    assert len(step) == 5
    assert [line["identifier"] for line in step] == [hit["identifier"] for hit in answer["generative"]]
    assert all(0 < line["probability"] <= 1 and line["images"] == 1 for line in step)
    assert [tiny_memory.identifiers.token_text(line["tokens"], None) for line in step] == [
        line["identifier"] for line in step
    ]
    assert "trace" not in tiny_memory.search("gold")


def test_beams_limit_the_generative_results_only(tiny_memory: Memory) -> None:
    answer = tiny_memory.search("gold", top=8, beams=3)
    assert (len(answer["generative"]), len(answer["dense"])) == (3, 8)


def test_more_top_and_beams_than_images_gives_all_images(tiny_memory: Memory) -> None:
    answer = tiny_memory.search("gold", top=MAX_TOP, beams=MAX_BEAMS)
    assert len({hit["file_name"] for hit in answer["generative"]}) == 12
    assert len(answer["dense"]) == 12


def test_whoever_asks_is_told_of_a_query_and_limits_that_cannot_be_used(tiny_memory: Memory) -> None:
    picture = tiny_memory.gallery.open(0)
    for ask in (tiny_memory.search, lambda query, **limits: tiny_memory.recall([query], **limits)):
        with pytest.raises(InputError, match="blank"):
            ask(" ")
        with pytest.raises(InputError, match="top is 0"):
            ask("gold", top=0)
    for look in (tiny_memory.search_image, lambda image, **limits: tiny_memory.recall_images([image], **limits)):
        with pytest.raises(InputError, match="beams is 1001"):
            look(picture, beams=MAX_BEAMS + 1)


def test_a_query_as_long_as_may_be_is_answered(tiny_memory: Memory) -> None:
    assert tiny_memory.search("dog " * (MAX_QUERY_CHARACTERS // 4))["generative"]


def test_a_script_that_the_tokenizer_never_saw_is_a_named_error(tiny_memory: Memory) -> None:
    with pytest.raises(InputError, match="characters that this memory's tokenizer cannot read"):
        tiny_memory.search("ბედნიერი ძაღლი")


def test_a_script_that_captions_were_in_is_answered(tiny_memory_dir: Path) -> None:
    memory = Memory.from_pretrained(tiny_memory_dir, device="cpu")
    gallery = Gallery(memory.gallery.root, memory.gallery.file_names, [["ბედნიერი ძაღლი"]] + [["a bar"]] * 11)
    georgian = Memory(memory.backbone, memory.identifiers, gallery, memory.dense)
    assert georgian.search("ძაღლი")["generative"]
    with pytest.raises(InputError, match="cannot read"):
        georgian.search("счастливая")


def test_symbols_that_the_training_had_are_answered(tiny_memory_dir: Path) -> None:
    memory = Memory.from_pretrained(tiny_memory_dir, device="cpu")
    parts = memory.backbone, memory.identifiers, memory.gallery, memory.dense
    with pytest.raises(InputError, match="cannot read"):
        Memory(*parts).search("🐶")
    assert Memory(*parts, {"training": {"characters": "🐱🐶"}}).search("🐶")["generative"]


@pytest.mark.parametrize("query", ["happy 😀", "?!", "<s></s><img_3>", "2 dogs", "'; DROP TABLE", "%s {x}"])
def test_unusual_queries_are_answered(query: str, tiny_memory: Memory) -> None:
    assert len(answers(tiny_memory, query)) == 10


def test_threads_get_the_same_answers_as_one_caller(tiny_memory: Memory) -> None:
    queries = ["dog", "a sleeping cat in bed", "red boat", "pizza"] * 8
    expected = [answers(tiny_memory, query) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: answers(tiny_memory, query), queries)) == expected


def test_saved_memory_has_the_documented_files_and_nothing_pickled(tiny_memory_dir: Path) -> None:
    names = {path.name for path in tiny_memory_dir.iterdir()}
    assert names == {"memory.json", "identifiers.safetensors", "model", "gallery", "dense", "README.md"}
    suffixes = {path.suffix for path in tiny_memory_dir.rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl", ".pickle", ".npy"}
    facts = json.loads((tiny_memory_dir / "memory.json").read_text())
    assert facts["format_version"] == 1
    assert facts["backbone"] == {"name": "tiny-llava", "revision": None}
    assert facts["images"] == 12
    assert facts["identifiers"]["type"] == "atomic"


def test_saved_memory_recalls_the_same_when_loaded(tiny_memory: Memory, tmp_path: Path) -> None:
    tiny_memory.save(tmp_path / "memory")
    loaded = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    query = "a quick brown fox"
    assert loaded.recall([query]) == tiny_memory.recall([query])
    assert loaded.facts == tiny_memory.facts


def test_saving_over_a_memory_replaces_it_and_leaves_nothing_else(tiny_memory: Memory, tmp_path: Path) -> None:
    for _ in range(2):
        tiny_memory.save(tmp_path / "memory")
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]
    assert answers(Memory.from_pretrained(tmp_path / "memory", device="cpu")) == answers(tiny_memory)


def test_a_memory_can_be_saved_over_the_folder_it_came_from(tiny_memory_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_memory_dir, tmp_path / "memory")
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    memory.save(tmp_path / "memory")
    assert memory.gallery.open(3).size == (48, 48)
    assert len(Gallery.load(tmp_path / "memory" / "gallery")) == 12


def test_saving_never_replaces_what_is_no_memory(tiny_memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(MemoryFormatError, match="other than a memory"):
            tiny_memory.save(path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_save_keeps_the_old_memory(
    tiny_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_memory.save(tmp_path / "memory")

    def disk_full(folder: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(tiny_memory.dense, "save", disk_full)
    with pytest.raises(OSError, match="no space"):
        tiny_memory.save(tmp_path / "memory")
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]
    assert answers(Memory.from_pretrained(tmp_path / "memory", device="cpu")) == answers(tiny_memory)


def changed(tiny_memory_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_memory_dir, tmp_path / "memory")


def test_a_folder_that_is_no_memory_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(MemoryFormatError, match="is no memory"):
        Memory.from_pretrained(tmp_path)


def test_another_format_version_is_a_named_error(tiny_memory_dir: Path, tmp_path: Path) -> None:
    folder = changed(tiny_memory_dir, tmp_path)
    (folder / "memory.json").write_text('{"format_version": 99}')
    with pytest.raises(MemoryFormatError, match="memory format 99, this version reads 1"):
        Memory.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "5"])
def test_facts_that_cannot_be_read_are_a_named_error(text: str, tiny_memory_dir: Path, tmp_path: Path) -> None:
    folder = changed(tiny_memory_dir, tmp_path)
    (folder / "memory.json").write_text(text)
    with pytest.raises(MemoryFormatError):
        Memory.from_pretrained(folder)


def test_parts_of_different_galleries_are_a_named_error(tiny_memory_dir: Path, tmp_path: Path) -> None:
    folder = changed(tiny_memory_dir, tmp_path)
    rows = (folder / "gallery" / "metadata.jsonl").read_text().splitlines()
    (folder / "gallery" / "metadata.jsonl").write_text("\n".join(rows[1:]))
    with pytest.raises(MemoryFormatError, match="count different images"):
        Memory.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/memory", "a/b/c", "", "../x"])
def test_a_name_that_is_no_folder_and_no_hub_id_is_a_named_error(name: str) -> None:
    with pytest.raises(HubError, match="checkpoints/emoji"):
        Memory.from_pretrained(name)


def test_a_hub_that_cannot_be_reached_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(HubError, match="'someone/memory' is no folder here and the hub did not give it"):
        Memory.from_pretrained("someone/memory")


def test_a_hub_id_is_fetched_at_its_revision_without_code_or_pickles(
    tiny_memory_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tiny_memory_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert len(Memory.from_pretrained("someone/memory", device="cpu", revision="v1").gallery) == 12
    assert (asked["name"], asked["revision"]) == ("someone/memory", "v1")
    assert not {"*", "*.py", "*.bin", "*.pkl", "*.pt"} & set(asked["patterns"])


def test_model_card_says_what_the_memory_is_and_escapes_what_others_wrote(
    tiny_memory: Memory, tiny_memory_dir: Path
) -> None:
    from gcr_core.memory.card import model_card

    card = (tiny_memory_dir / "README.md").read_text()
    assert "A memory of 12 images" in card
    assert "| backbone.name | tiny-llava |" in card
    hostile = model_card(tiny_memory.facts | {"backbone": {"name": "<script>|x"}})
    assert "<script>" not in hostile
