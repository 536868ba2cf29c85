"""A session costs a copy, and is as Gradio's own; what a call makes Gradio do that nobody needs is left out."""

import sys
from importlib.util import find_spec

import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState

from gcr_core.settings import Settings
from gcr_core.ui.fair_queue import FairQueue
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.server import Server
from gcr_core.ui.sessions import SessionStates


@pytest.fixture
def page():
    with gr.Blocks() as page:
        gr.Textbox("words", label="Words")
        gr.State({"count": 0})
        gr.HTML("<p>")
    page._queue = FairQueue(page, Settings(), 1)
    return page


@pytest.fixture
def states(page):
    server = gr.routes.App.create_app(page, app=Server(lambda within: within))
    assert isinstance(server.state_holder, SessionStates)
    return server.state_holder


def known(state):
    return {**vars(state), "blocks_config": vars(state.blocks_config)}


def test_a_new_session_is_as_gradios_own(page, states):
    assert known(states["new"]) == known(SessionState(page))
    assert states["new"] is states["new"]


def test_what_one_session_changes_no_other_sees(page, states):
    words, count = (
        next(id for id, part in page.blocks.items() if isinstance(part, kind)) for kind in (gr.Textbox, gr.State)
    )
    first, second = states["first"], states["second"]
    first._update_value_in_config(words, "other words")
    first[count]["count"] = 1
    first[words] = gr.Textbox("third", label="Other", render=False)
    for untouched in (second, states["third"]):
        assert untouched.config_values[words]["props"]["value"] == "words"
        assert untouched[count] == {"count": 0}
        assert untouched[words] is page.blocks[words]


def test_no_part_of_the_page_is_configured_anew_for_a_session(states, monkeypatch):
    monkeypatch.setattr(BlocksConfig, "config_for_block", lambda *given: pytest.fail("a part was configured"))
    assert states["new"].config_values


def test_requests_are_not_summed_up_by_pandas_after_each(page, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    page._queue.event_count_at_last_cache = -1
    assert page._queue.compute_analytics_summary([{"function": "search", "status": "success", "process_time": 1}]) == {}


def test_nobody_looks_for_a_matplotlib_that_is_not_there():
    assert find_spec("matplotlib") or sys.modules["matplotlib"] is None
