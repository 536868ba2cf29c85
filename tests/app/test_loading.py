"""A memory that loads in the background: who asks early waits, and a failure has a reason."""

import threading

import pytest

from gcr_core.errors import GcrError, MemoryFormatError
from gcr_core.serving.loading import LoadingMemory


def test_loading_begins_at_start_and_those_who_wait_get_the_memory():
    gate, memory = threading.Event(), object()

    def load():
        gate.wait()
        return memory

    loading = LoadingMemory(load)
    loading.start()
    assert loading.state == "waking"
    gate.set()
    assert loading.wait() is memory
    assert loading.state == "ready"


@pytest.mark.parametrize("failure", [MemoryFormatError("no memory here: name another"), KeyError("model")])
def test_a_memory_that_cannot_be_loaded_says_why_to_everyone_who_asks(failure):
    def load():
        raise failure

    loading = LoadingMemory(load)
    loading.start()
    for _ in range(2):
        with pytest.raises(GcrError, match=str(failure.args[0])):
            loading.wait()
    assert loading.state == "failed"
