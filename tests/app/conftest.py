"""Apps on the tiny memory for all of these tests, and clients to them; and of one tab's routes alone, browsers."""

import secrets
import shutil
from types import SimpleNamespace

import pytest
from gradio_client import Client
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gcr_core.data.gallery import Gallery
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.serving.remote_memory import RemoteMemory, memory_host
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui.auth import COOKIE, Visitors
from gcr_core.ui.registry import Registry
from tests import tiny
from tests.serving import serve

FROM_THE_PAGE = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
"""What a browser says of a request that the page itself makes."""


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


@pytest.fixture
def registry(tmp_path, process, loading):
    return Registry(loading, process, Visitors(Settings(home=tmp_path / "home", visitors=True)))


@pytest.fixture
def visit(routes):
    """Makes browsers, each with a cookie of its own or with none, that ask the fixture `routes` of a module."""
    app = Starlette(routes=routes)

    def new(cookie=True, **options):
        cookies = {COOKIE: secrets.token_urlsafe(32)} if cookie else {}
        return TestClient(app, cookies=cookies, headers=FROM_THE_PAGE, **options)

    return new


@pytest.fixture
def owner(visit):
    return visit()


@pytest.fixture
def kept(registry, owner, tiny_memory_dir, tmp_path):
    """The owner's memory: its id, its folder, and what its gallery is at the moment."""
    workspace = Workspace.of(registry.visitors.settings.home, owner.cookies[COOKIE], Settings())
    workspace.keep(shutil.copytree(tiny_memory_dir, tmp_path / "copied"), id := new_id(), "My <shapes>")
    folder = workspace.memory(id)
    return SimpleNamespace(id=id, folder=folder, gallery=lambda: Gallery.load(folder / "gallery"))


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
