"""A memory in a process of its own answers as one in this process does, and its mistakes stay mistakes."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from gcr_core.errors import GcrError, InputError
from gcr_core.retrieval.query import SearchRequest
from gcr_core.serving.model_process import EndedError, ModelProcess
from gcr_core.serving.remote_memory import RemoteMemory, memory_host

pytestmark = pytest.mark.slow

REQUEST = SearchRequest("a red circle", 3, 5)


@pytest.fixture(scope="module")
def process():
    process = ModelProcess(memory_host, "memory")
    yield process
    process.end()


@pytest.fixture(scope="module")
def apart(process, tiny_memory_dir):
    return RemoteMemory.fetch(str(tiny_memory_dir), process)


def test_it_answers_as_the_memory_itself(apart, tiny_memory):
    here, there = tiny_memory.answer(REQUEST), apart.answer(REQUEST)
    for side in ("generative", "dense"):
        assert [hit["file_name"] for hit in there[side]] == [hit["file_name"] for hit in here[side]]
    assert apart.facts == tiny_memory.facts
    assert apart.gallery.file_names == tiny_memory.gallery.file_names


def test_it_is_asked_with_a_picture(apart, tiny_memory):
    answer = apart.answer(SearchRequest(tiny_memory.gallery.open(0), 3, 5, trace=True))
    assert len(answer["generative"]) == 3
    assert answer["trace"]


def test_a_mistake_of_the_users_comes_back_as_itself_and_the_process_lives_on(apart):
    with pytest.raises(InputError, match="cannot read"):
        apart.answer(SearchRequest("ბედნიერი ძაღლი"))
    assert apart.answer(REQUEST)["dense"]


def test_many_who_ask_at_once_each_get_their_own_answer(apart, tiny_memory):
    asked = [SearchRequest(words, top) for words in ("a red circle", "gold bar", "blue") for top in (1, 3, 12)]
    asked += [
        SearchRequest("gold", beams=2),
        SearchRequest(tiny_memory.gallery.open(0)),
        SearchRequest("ბედნიერი ძაღლი"),
    ]
    with ThreadPoolExecutor(len(asked)) as threads:
        futures = [threads.submit(apart.answer, request) for request in asked]
    *found, mistaken = futures
    assert "cannot read" in str(mistaken.exception())
    for future, request in zip(found, asked, strict=False):
        there, here = future.result(), tiny_memory.answer(request)
        assert there["query"] == here["query"]
        for side in ("generative", "dense"):
            assert [hit["file_name"] for hit in there[side]] == [hit["file_name"] for hit in here[side]]
            assert [hit["score"] for hit in there[side]] == pytest.approx(
                [hit["score"] for hit in here[side]], abs=1e-4
            )


def test_a_folder_that_is_no_memory_is_said_at_once(process, tmp_path):
    with pytest.raises(GcrError, match="memory"):
        RemoteMemory.fetch(str(tmp_path), process)


def test_a_memory_whose_folder_went_is_said_to_be_gone(process, tiny_memory_dir, tmp_path):
    gone = RemoteMemory(shutil.copytree(tiny_memory_dir, tmp_path / "memory"), process)
    shutil.rmtree(gone.folder)
    with pytest.raises(GcrError, match="is no folder here"):
        gone.answer(REQUEST)


def test_a_process_that_was_killed_is_started_again_for_the_next_question(apart, process):
    assert apart.answer(REQUEST)["dense"]
    os.kill(process.pid, signal.SIGKILL)
    try:
        answer = apart.answer(REQUEST)
    except EndedError as ended:
        assert "ask again" in str(ended)
        answer = apart.answer(REQUEST)
    assert answer["dense"]


def test_what_is_added_and_forgotten_is_on_the_disk_and_in_the_next_answer(
    process, tiny_memory_dir, tiny_gallery, tmp_path
):
    folder = shutil.copytree(tiny_memory_dir, tmp_path / "memory")
    apart = RemoteMemory(folder, process)
    [name] = apart.add([("new.png", Image.new("RGB", (48, 48), "purple"))], [["something purple"]])
    assert name in apart.gallery.file_names
    apart.forget(["red-circle.png"])
    found = apart.answer(SearchRequest("a red circle", 100, 100))
    names = {hit["file_name"] for side in ("generative", "dense") for hit in found[side]}
    assert names == set(apart.gallery.file_names) == {*tiny_gallery.file_names, name} - {"red-circle.png"}
    assert apart.facts["changes"] == {"added": 1, "forgotten": 1, "captions": 0}
    assert all(isinstance(words, str) for words in apart.describe([name, "red-square.png"]))
    [hit] = [hit for hit in found["generative"] if hit["file_name"] == name]
    assert apart.identifiers([name]) == [hit["identifier"]]
