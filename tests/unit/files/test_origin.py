"""Which version of a model a memory names: told by its weights, wherever an index says that they are."""

import json
from hashlib import sha256

import pytest

from gcr_core.errors import MemoryFormatError
from gcr_core.files import hub
from gcr_core.files.layout import WEIGHTS_FILE, WEIGHTS_INDEX, weight_files
from gcr_core.files.origin import Origin


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A `checkpoints/` with a model of one file, and one whose index names that file."""
    monkeypatch.setattr(hub, "ROOT", tmp_path)
    whole, shares = tmp_path / "checkpoints" / "whole", tmp_path / "checkpoints" / "shares"
    for folder in (whole, shares):
        folder.mkdir(parents=True)
    (whole / WEIGHTS_FILE).write_bytes(b"weights")
    index = {"weight_map": {"a": f"../whole/{WEIGHTS_FILE}", "b": f"../whole/{WEIGHTS_FILE}"}}
    (shares / WEIGHTS_INDEX).write_text(json.dumps(index))
    return whole, shares


def test_models_that_share_a_file_have_their_own_names_and_its_hash(shipped):
    expected = sha256(b"weights").hexdigest()
    assert [Origin.of(str(folder), folder) for folder in shipped] == [
        Origin("checkpoints/whole", expected),
        Origin("checkpoints/shares", expected),
    ]


def test_other_weights_have_another_hash(shipped):
    before = Origin.of(str(shipped[1]), shipped[1])
    (shipped[0] / WEIGHTS_FILE).write_bytes(b"others")
    assert Origin.of(str(shipped[1]), shipped[1]) != before


def test_shards_are_read_in_the_order_of_their_names(tmp_path):
    for name in ("b.safetensors", "a.safetensors"):
        (tmp_path / name).touch()
    assert [file.name for file in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors"]


def test_what_is_written_is_read(tmp_path):
    Origin("owner/name", None).write(tmp_path / "clip.json")
    assert Origin.read(tmp_path / "clip.json") == Origin("owner/name", None)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": 3}', '{"name": "", "revision": null}'])
def test_what_names_no_model_says_so(tmp_path, text):
    (tmp_path / "clip.json").write_text(text)
    with pytest.raises(MemoryFormatError, match="names no model"):
        Origin.read(tmp_path / "clip.json")
