"""Apps on the tiny memory for all of these tests, and clients to them."""

import secrets

import pytest
from gradio_client import Client

from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.serving.remote_memory import RemoteMemory, memory_host
from tests import tiny
from tests.serving import serve


@pytest.fixture(scope="session")
def app_address(tiny_memory_dir, tmp_path_factory):
    with serve(tiny_memory_dir, tmp_path_factory.mktemp("app") / "app.log") as address:
        yield address


@pytest.fixture(scope="session")
def process():
    """Where memories answer that are asked without an app. Imports torch, as an app's does."""
    process = ModelProcess(memory_host, "memory host of the tests")
    yield process
    process.end()


@pytest.fixture
def loading(tiny_memory_dir, process):
    """The tiny memory of a page without an app, not loaded yet."""
    return LoadingMemory(lambda: RemoteMemory(tiny_memory_dir, process))


@pytest.fixture(scope="session")
def client(app_address):
    client = Client(app_address, verbose=False)
    yield client
    client.close()


@pytest.fixture(scope="session")
def bare_client(tmp_path_factory):
    """A client to an app without a memory, where training is switched off."""
    folder = tmp_path_factory.mktemp("bare")
    with serve(folder / "nothing", folder / "app.log", training=0) as address:
        client = Client(address, verbose=False)
        yield client
        client.close()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def shared_address(tiny_memory_dir, tiny_clip_dir, shared_folder):
    """An app for visitors who are strangers to each other, which memorises with tiny models."""
    folder = shared_folder
    models = {"backbone": tiny.save_llava(folder / "llava"), "clip": tiny_clip_dir}
    with serve(tiny_memory_dir, folder / "app.log", visitors=1, **models) as address:
        yield address


@pytest.fixture(scope="session")
def new_visitor(shared_address):
    """Makes clients with a secret of their own each."""
    clients = []

    def visit(secret=None):
        headers = {"X-GCR-Owner": secret or secrets.token_urlsafe(32)}
        clients.append(Client(shared_address, headers=headers, verbose=False))
        return clients[-1]

    yield visit
    for client in clients:
        client.close()
