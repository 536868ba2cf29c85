"""A real browser, the Chromium on this machine, on an app with the tiny memory, its model's captions among people's.

`make test-firefox` has Firefox in its place.
"""

import secrets
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from gcr_core.data.gallery import Gallery
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui.auth import COOKIE
from tests.firefox import IN_FIREFOX, launch_options
from tests.serving import serve

CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first that is here: without a desktop's browser around the pages, each costs two thirds of the time."""
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Works as root, and asks no host of Google's for anything."""
FIREFOXES = ("firefox-esr", "firefox")
PATIENCE_MS = 300_000
"""How long an expectation may take to come true: enough for a training on a busy machine."""

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def app_address(tiny_memory_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    memory = shutil.copytree(tiny_memory_dir, folder / "memory")
    gallery = Gallery.load(tiny_memory_dir / "gallery")
    written = {image: [f"What the model wrote of picture {image}"] for image in range(len(gallery))}
    gallery.with_pseudo_queries(written).save(memory / "gallery")
    with serve(memory, folder / "app.log") as address:
        yield address


@pytest.fixture(scope="session")
def strangers(tiny_memory_dir, tmp_path_factory):
    """(address, home) of an app whose visitors are strangers to each other."""
    folder = tmp_path_factory.mktemp("strangers")
    with serve(tiny_memory_dir, folder / "app.log", visitors=1) as address:
        yield address, folder / "home"


@pytest.fixture(scope="session")
def browsers():
    """Colour scheme → a browser: the same one, but in Firefox, which has the scheme of all its pages."""
    names = FIREFOXES if IN_FIREFOX else CHROMIUMS
    executable = next(filter(None, map(shutil.which, names)), None)
    assert executable, f"these tests need {names[0]}: `make test` installs Chromium, `make test-firefox` Firefox"
    started = {}

    def of(scheme):
        which = scheme if IN_FIREFOX else ""
        if which not in started:
            options = launch_options(scheme) if IN_FIREFOX else {"args": QUIET}
            started[which] = launch(executable_path=executable, **options)
        return started[which]

    with sync_playwright() as playwright:
        launch = playwright.firefox.launch if IN_FIREFOX else playwright.chromium.launch
        yield of
        for browser in started.values():
            browser.close()


@pytest.fixture(scope="session")
def browser(browsers):
    return browsers("light")


@pytest.fixture
def open_page(browsers):
    """Opens an address in a fresh context: open_page(address, width=390, color_scheme="dark").

    `script` is run in it before the page's own.
    """
    contexts = []

    def open_(address, width=1280, height=900, script="", **options):
        browser = browsers(options.get("color_scheme", "light"))
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.add_init_script(script)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        page.get_by_role("tab", name="Search").wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page, app_address):
    return open_page(app_address)


@pytest.fixture
def open_shapes(open_page, tiny_memory_dir):
    """Opens the desk of a new visitor who has the memory "My shapes", with or without its pictures."""

    def open_(address, home, pictures=True, **options):
        secret = secrets.token_urlsafe(32)
        shelf = Workspace.of(home, secret, Settings())
        folder = Path(shutil.copytree(tiny_memory_dir, shelf.root / "copied"))
        for picture in () if pictures else folder.glob("gallery/*.png"):
            picture.unlink()
        shelf.keep(folder, new_id(), "My shapes")
        cookie = {"name": COOKIE, "value": secret, "domain": "127.0.0.1", "path": "/"}
        page = open_page(f"{address}#tab=memorise", storage_state={"cookies": [cookie]}, **options)
        expect(page.get_by_role("heading", name="My shapes")).to_be_visible()
        return page

    return open_
