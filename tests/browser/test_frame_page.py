"""The page within another site's, as the hub shows a Space: it keeps its visitor, memorises, and breaks no policy."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from gcr_core.ui.auth import SECURE_COOKIE
from tests import serving, tiny, uploads
from tests.patience import SECONDS

VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="module")
def hub():
    """Another site, on another loopback name; it shows what its address asks for in a frame."""

    class Frame(BaseHTTPRequestHandler):
        def do_GET(self):
            body = (
                f'<iframe src="http://127.0.0.1{self.path.removeprefix("/")}" width=1200 height=1600></iframe>'.encode()
            )
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Frame)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def space(hub, tiny_memory_dir, tiny_clip_dir, tmp_path_factory):
    """The address of a Space that the hub may show."""
    folder = tmp_path_factory.mktemp("space")
    models = {"backbone": tiny.save_llava(folder / "llava"), "clip": tiny_clip_dir}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPACE_ID", "me/my-space")
        with serving.serve(tiny_memory_dir, folder / "app.log", origins=hub, **models) as address:
            yield address


def test_in_the_hubs_frame_a_visitor_memorises_and_finds_it_again(browser, hub, space, tmp_path):
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{('red', 'green', 'blue')[number % 3]} shape {number}.png")
        paths[-1].write_bytes(uploads.picture((60, 40), seed=number))
    page = browser.new_context().new_page()
    page.set_default_timeout(1000 * SECONDS)
    page.add_init_script(VIOLATIONS)
    port = space.rstrip("/").rsplit(":", 1)[1]
    page.goto(f"{hub}/:{port}/")
    frame = page.frame_locator("iframe")
    frame.get_by_role("tab", name="Memorise").click()
    frame.locator("#prepare input[multiple]").first.set_input_files(paths)
    expect(frame.locator(".taken")).to_be_visible()
    frame.get_by_label("Quick").check()
    frame.get_by_label("Name", exact=True).fill("In a frame")
    frame.get_by_role("button", name="Memorise", exact=True).click()
    expect(frame.get_by_role("heading", name="In a frame")).to_be_visible()
    [cookie] = [each for each in page.context.cookies(f"http://127.0.0.1:{port}") if "gcr-owner" in each["name"]]
    assert cookie["name"] == SECURE_COOKIE and cookie["secure"] and cookie["httpOnly"]
    page.reload()
    frame.get_by_role("tab", name="Memorise").click()
    expect(frame.get_by_role("heading", name="In a frame")).to_be_visible()
    within = next(each for each in page.frames if each.url.startswith(f"http://127.0.0.1:{port}"))
    assert within.evaluate("window.violations") == []
    page.context.close()


def test_a_site_that_is_not_named_cannot_show_the_page(browser, hub, app_address):
    page = browser.new_context().new_page()
    port = app_address.rstrip("/").rsplit(":", 1)[1]

    def refuses(message):
        return "frame-ancestors" in message.text or "X-Frame-Options" in message.text

    with page.expect_console_message(refuses, timeout=1000 * SECONDS):
        page.goto(f"{hub}/:{port}/", wait_until="load")
    page.context.close()


def test_the_page_loads_nothing_that_its_policy_forbids(open_page, app_address):
    page = open_page(app_address, script=VIOLATIONS)
    page.get_by_role("textbox", name="Query").fill("a red circle")
    page.get_by_role("textbox", name="Query").press("Enter")
    expect(page.locator("#results img").first).to_be_visible()
    for tab in ("Gallery", "Memorise"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
    assert page.evaluate("window.violations") == []
