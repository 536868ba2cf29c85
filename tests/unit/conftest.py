"""Tiny checkpoints that unit tests share, written once a run; property tests without a clock."""

import pytest
from hypothesis import settings

from tests import tiny, tiny_mini

settings.register_profile("unhurried", deadline=None, max_examples=50)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory):
    return tiny.save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def tied_llava_folder(tmp_path_factory):
    return tiny.save_llava(tmp_path_factory.mktemp("tied_llava"), tied=True)


@pytest.fixture(scope="session")
def mini_folder(tmp_path_factory):
    return tiny_mini.save_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="session")
def idefics3_folder(tmp_path_factory):
    return tiny.save_idefics3(tmp_path_factory.mktemp("idefics3"))
