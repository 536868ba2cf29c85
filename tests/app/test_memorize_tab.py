"""The Memorise tab's answers, which may come late and in any order."""

import shutil
from types import SimpleNamespace

import pytest

from gcr_core.serving.workspace import new_id
from gcr_core.settings import Settings
from gcr_core.ui.auth import Visitors
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.memorize_tab import MemorizeTab
from gcr_core.ui.registry import Registry


@pytest.fixture
def tab(tmp_path):
    with gr.Blocks():
        registry = Registry(None, None, Visitors(Settings(home=tmp_path / "home")))
        search = SimpleNamespace(chosen=gr.HTML(""), offered=lambda request: "")
        return MemorizeTab(registry, SimpleNamespace(list=lambda workspace: []), search)


def test_an_opening_that_is_late_leaves_the_notice_of_what_was_done_since(tab):
    request = SimpleNamespace(headers={}, cookies={})
    assert tab.notice not in tab.open_page("", request)
    assert "no such picture" in tab.open_page("no such picture", request)[tab.notice]


def test_a_chore_that_began_and_ended_between_two_looks_shows_its_memory_anew(tab, tiny_memory_dir):
    request, id = SimpleNamespace(headers={}, cookies={}), new_id()
    workspace = tab.workspace(request)
    workspace.keep(shutil.copytree(tiny_memory_dir, workspace.root / "copied"), id, "My shapes")
    before = tab.state(request)
    tab.chores.end(id, "", "the hub knows no such token")  # the page was answered "Pushing…" meanwhile
    after = tab.state(request)
    assert after["memories"] != before["memories"] and after["work"] == before["work"]
