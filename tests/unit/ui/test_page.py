"""Page: what it takes of Gradio that Gradio does not promise."""

from gcr_core.ui.gradio_import import gr
from gcr_core.ui.page import QUEUE_SECONDS


def test_gradios_queue_still_sleeps_by_the_name_that_the_page_sets() -> None:
    with gr.Blocks() as page:
        pass
    assert 0 < page.queue()._queue.sleep_when_free < QUEUE_SECONDS
