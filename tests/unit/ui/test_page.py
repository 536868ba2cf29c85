"""Page: what it takes of Gradio that Gradio does not promise, what it links to, and whom it invites."""

import asyncio
import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.serving.remote_memory import memory_host
from gcr_core.settings import Settings
from gcr_core.ui import page as web
from gcr_core.ui.gradio_import import gr


def test_gradios_queue_still_sleeps_by_the_name_that_the_page_sets() -> None:
    with gr.Blocks() as page:
        pass
    assert 0 < page.queue()._queue.sleep_when_free < web.QUEUE_SECONDS


def test_every_stylesheet_is_linked_behind_the_one_that_the_others_build_on() -> None:
    linked = re.findall('<link rel="stylesheet" href="([^"]+)">', web.HEAD)
    assert linked[0] == "app.css"
    assert sorted(linked) == sorted(path.name for path in web.ASSETS.glob("*.css"))
    assert set(linked) <= set(web.LOOK)


@pytest.mark.parametrize("training", [True, False])
def test_the_first_screen_invites_to_photographs_where_they_can_be_memorised(tmp_path, training) -> None:
    settings = Settings(home=tmp_path, training=training)
    app = web.App(settings, LoadingMemory(lambda: None), ModelProcess(memory_host, "memory"))  # type: ignore[return-value]
    try:
        parts = {block.elem_id for block in web.build(app, ()).blocks.values()}
    finally:
        app.jobs.close()
    assert ("invitation" in parts) is training


def test_what_a_disk_refuses_is_told_in_one_line_by_every_event_and_endpoint(capsys) -> None:
    def write() -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/data/gcr/owners/0123/galleries/.x.0a1b2c3d")

    with web.Page() as page:
        gr.api(write, api_name="write")
    with ThreadPoolExecutor(1) as thread:  # Playwright's loop may run in this one
        asked = thread.submit(asyncio.run, page.call_function(0, []))
    with pytest.raises(gr.Error, match=r"cannot be used \(Read-only file system\): name a folder") as told:
        asked.result()
    assert "/data" not in str(told.value) and capsys.readouterr().err == ""
