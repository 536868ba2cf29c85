"""Consolidating on the page, where another page or a second click has done it already."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from gcr_core.settings import Settings
from gcr_core.ui.auth import Visitors
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.memorize_tab import MemorizeTab
from gcr_core.ui.registry import Registry


def test_a_memory_without_changes_is_not_trained_and_the_page_says_so(tmp_path, tiny_memory_dir, monkeypatch):
    with gr.Blocks():
        registry = Registry(None, None, Visitors(Settings(home=tmp_path / "home")))
        search = SimpleNamespace(chosen=gr.HTML(""), offered=lambda request: "")
        jobs = SimpleNamespace(list=lambda workspace: [], nothing_else_trains=lambda workspace: nullcontext())
        tab = MemorizeTab(registry, jobs, search)
    request, id, ends = SimpleNamespace(headers={}, cookies={}), "a" * 16, []
    folder = tab.workspace(request).root / "memories" / id
    monkeypatch.setattr(registry, "own_memory", lambda request, id: None)
    monkeypatch.setattr("gcr_core.serving.workspace.Workspace.memory", lambda workspace, id: folder)
    shutil.copytree(tiny_memory_dir, folder)
    monkeypatch.setattr(tab.training, "ask", lambda *_, **__: pytest.fail("it was trained"))
    monkeypatch.setattr(tab.chores, "begin", lambda id, words, work: ends.append(work(lambda word: None)))
    monkeypatch.setattr(tab, "show_memories", lambda request: {})
    tab._consolidate(request, {"memory": id})
    assert ends == ["Nothing to consolidate: what came and went is trained in already."]
