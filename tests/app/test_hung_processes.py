"""A process of the app that is suspended is said to hang, ended and replaced; meanwhile the page answers."""

import json
import os
import shutil
import signal
import urllib.error
import urllib.request

import psutil
import pytest
from gradio_client import Client

from gcr_core.memory.manifest import read_manifest, write_manifest
from gcr_core.serving.guests import MARK
from gcr_core.serving.model_process import LOOK_SECONDS, NAMED_SECONDS
from gcr_core.serving.workspace import Workspace, new_id
from tests.patience import until
from tests.serving import await_page, end_trainings, free_port, start

pytestmark = pytest.mark.slow


@pytest.fixture
def app(tiny_memory_dir, tmp_path):
    """The process of an app for strangers, and its address."""
    port = free_port()
    process = start(tiny_memory_dir, tmp_path / "app.log", port, visitors=1)
    try:
        yield process, await_page(process, tmp_path / "app.log", port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        end_trainings(tmp_path / "home")


def health(address):
    try:
        with urllib.request.urlopen(f"{address}health", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def children(app):
    """The processes that hold models, the oldest first."""
    spawned = [child for child in psutil.Process(app.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    return [child.pid for child in sorted(spawned, key=lambda child: child.create_time())]


def memory_process(app):
    return children(app)[0]


def test_a_suspended_memory_process_is_named_and_replaced_and_search_comes_back(app):
    process, address = app
    client = Client(address, headers={"X-GCR-Owner": "x" * 32}, verbose=False)
    assert client.predict("a red circle", api_name="/search")["dense"]
    assert health(address) == (200, {"memory": "ready", "reason": ""})
    pid = memory_process(process)
    os.kill(pid, signal.SIGSTOP)
    assert NAMED_SECONDS + LOOK_SECONDS < 20, "the limit that the project promises"
    until(lambda: health(address)[1]["memory"] == "hung")
    status, said = health(address)
    assert (status, "no sign of life" in said["reason"]) == (503, True)
    until(lambda: health(address) == (200, {"memory": "ready", "reason": ""}))
    assert memory_process(process) != pid
    assert client.predict("a red circle", api_name="/search")["dense"]
    client.close()


def test_a_memory_from_elsewhere_that_never_answers_keeps_nobody_elses_search_waiting(app, tiny_memory_dir, tmp_path):
    process, address = app
    secret, id = "y" * 32, new_id()
    owner = Workspace.of(tmp_path / "home", secret)
    shutil.copytree(tiny_memory_dir, owner.root / "memories" / id)
    write_manifest(owner.memory(id), read_manifest(owner.memory(id)) | {MARK: True})
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (owner.memory(id) / "model" / "chat_template.jinja").write_text(endless)
    hostile, other = (Client(address, headers={"X-GCR-Owner": secret}, verbose=False) for secret in (secret, "z" * 32))
    assert other.predict("a red circle", api_name="/search")["dense"]
    asked = [hostile.submit("a red circle", memory=id, api_name="/search") for _ in range(2)]
    until(lambda: len(children(process)) == 2)
    for _ in range(10):
        assert other.predict("a red circle", api_name="/search")["dense"]
    assert not any(job.done() for job in asked)
    assert health(address)[0] == 200
    for child in children(process):
        if child != memory_process(process):
            os.kill(child, signal.SIGKILL)
    for client in (hostile, other):
        client.close()
