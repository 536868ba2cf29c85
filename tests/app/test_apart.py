"""A memory in a process of its own answers as one in this process does, and its mistakes stay mistakes."""

import os
import signal

import psutil
import pytest

from gcr_core.errors import GcrError, InputError
from gcr_core.ui.apart import MemoryApart


@pytest.fixture(scope="module")
def apart(tiny_memory_dir):
    return MemoryApart(str(tiny_memory_dir))


def test_it_answers_as_the_memory_itself(apart, tiny_memory):
    here, there = tiny_memory.search("a red circle", 3, 5), apart.search("a red circle", 3, 5)
    for side in ("generative", "dense"):
        assert [hit["file_name"] for hit in there[side]] == [hit["file_name"] for hit in here[side]]
    assert apart.facts == tiny_memory.facts
    assert apart.gallery.file_names == tiny_memory.gallery.file_names


def test_it_is_asked_with_a_picture(apart, tiny_memory):
    answer = apart.search_image(tiny_memory.gallery.open(0), 3, 5, trace=True)
    assert len(answer["generative"]) == 3
    assert answer["trace"]


def test_a_mistake_of_the_users_comes_back_as_itself_and_the_process_lives_on(apart):
    with pytest.raises(InputError, match="blank"):
        apart.search(" ", 3, 5)
    assert apart.search("a red circle", 3, 5)["dense"]


def test_a_folder_that_is_no_memory_is_said_at_once(tmp_path):
    with pytest.raises(GcrError, match="memory"):
        MemoryApart(str(tmp_path))


def test_a_process_that_was_killed_is_said_to_everyone_who_asks(tiny_memory_dir):
    before = set(psutil.Process().children())
    apart = MemoryApart(str(tiny_memory_dir))
    for child in set(psutil.Process().children()) - before:
        if any("spawn_main" in word for word in child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(GcrError, match="start the app again"):
            apart.search("a red circle", 3, 5)
