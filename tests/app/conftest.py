"""One app on the tiny memory for all of these tests, and a client to it."""

import pytest
from gradio_client import Client

from tests.serving import serve


@pytest.fixture(scope="session")
def app_address(tiny_memory_dir, tmp_path_factory):
    with serve(tiny_memory_dir, tmp_path_factory.mktemp("app") / "app.log") as address:
        yield address


@pytest.fixture(scope="session")
def client(app_address):
    client = Client(app_address, verbose=False)
    yield client
    client.close()
