"""Photograph the page for docs/screens: python scripts/screenshots.py [--out docs/screens] [--photographs FOLDER]

    pip install --no-deps scikit-image scikit-learn

Starts the app in a process of its own, and in a headless Chromium, at the size of a desktop and of a phone, light and
dark, does what a new user does: asks for emoji, tests both sides with queries, drops photographs, memorises them,
searches them, opens one large and looks through the gallery. Each screen is kept as WebP. Unless a folder is named, the
photographs are some that scikit-image and scikit-learn ship for their examples; `docs/screens/NOTICE.md` says whose
they are.
"""

import argparse
import importlib.metadata
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from search import await_answer, running  # noqa: E402

PHOTOGRAPHS = {
    "scikit-image": ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png", "brick.png",
                     "grass.png", "gravel.png", "clock_motion.png", "hubble_deep_field.jpg"),
    "scikit-learn": ("china.jpg", "flower.jpg"),
}  # fmt: skip
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
QUALITY = 82
PATIENCE_MS = 60_000
LOADED = """[...document.images].every((image) => {
  const { top, bottom, height } = image.getBoundingClientRect();
  return image.complete || !height || bottom < 0 || top > innerHeight;
})"""


def collect(folder: Path) -> Path:
    """Copies the packages' photographs, two of them into an album, and returns the folder."""
    for package, names in PHOTOGRAPHS.items():
        files = {file.name: file for file in importlib.metadata.files(package) or []}
        for name in names:
            target = folder / ("Space" if name in ("astronaut.png", "hubble_deep_field.jpg") else "") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(files[name].locate()), target)
    return folder


class Camera:
    """One page, and where its pictures go."""

    def __init__(self, page: Page, out: Path, suffix: str):
        self.page, self.out, self.suffix = page, out, suffix

    def shoot(self, name: str) -> None:
        """Keeps what is on the screen once its pictures are loaded and nothing moves."""
        self.page.wait_for_function(LOADED)
        self.page.wait_for_timeout(600)
        picture = Image.open(io.BytesIO(self.page.screenshot()))
        picture.save(self.out / f"{name}-{self.suffix}.webp", quality=QUALITY)


def ask(page: Page, words: str) -> None:
    page.get_by_role("textbox", name="Query").fill(words)
    page.get_by_role("textbox", name="Query").press("Enter")
    expect(page.locator("#results .asked-for")).to_contain_text(words)
    expect(page.locator("#results .waiting")).to_have_count(0)


def walk(camera: Camera, address: str, photographs: Path) -> None:
    """A new user's first minutes."""
    page = camera.page
    page.goto(address)
    expect(page.locator("#state")).to_contain_text("ready")
    ask(page, "a happy dog")
    camera.shoot("search-emoji")
    page.get_by_role("button", name="Both together").click()
    camera.shoot("search-together")
    page.locator(".switch button[data-side=generative]").click()

    page.get_by_role("tab", name="Test it").click()
    page.get_by_label("Keywords kept out of training").check()
    page.get_by_role("button", name="Test it", exact=True).click()
    results = page.locator("#testing [data-part=results]")
    expect(results.get_by_role("img", name="Reliability")).to_be_visible()
    expect(page.locator("#testing .under-way")).to_be_hidden()
    results.evaluate("results => results.scrollIntoView()")
    camera.shoot("test-it")

    page.get_by_role("tab", name="Memorise").click()
    page.locator("#prepare input[webkitdirectory]").set_input_files(photographs)
    expect(page.locator(".taken")).to_be_visible()
    field = page.get_by_label("Captions of rocket.jpg", exact=False).first
    field.fill("a rocket lifts off at night")
    field.press("Tab")
    page.get_by_label("Name", exact=True).fill("Photographs")
    page.locator("#prepare").scroll_into_view_if_needed()
    camera.shoot("memorise-staging")
    page.get_by_role("button", name="Memorise", exact=True).click()
    expect(page.locator(".job")).to_be_visible()
    camera.shoot("memorise-running")
    search = page.get_by_role("button", name="Search it", exact=True)
    expect(search).to_be_visible()
    camera.shoot("memorise-done")

    search.click()
    expect(page.locator("#state")).to_contain_text(re.compile("ready: 12"))
    ask(page, "a cup of coffee")
    camera.shoot("search-photographs")
    page.locator("#results .card img").first.click()
    expect(page.locator("dialog[open]")).to_be_visible()
    camera.shoot("lightbox")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator("#pictures img").first).to_be_visible()
    camera.shoot("gallery")


def photograph(browser: Browser, address: str, photographs: Path, out: Path) -> None:
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
                reduced_motion="reduce",
                has_touch=size == "phone",
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            walk(Camera(page, out, f"{size}-{scheme}"), address, photographs)
            context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screens")
    parser.add_argument("--photographs", type=Path, help="a folder of twelve, one of them rocket.jpg")
    arguments = parser.parse_args()
    expect.set_options(timeout=PATIENCE_MS)
    names = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
    executable = next(filter(None, map(shutil.which, names)), None)
    if not executable:
        raise SystemExit("no Chromium is here: make chromium installs one")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photographs = arguments.photographs or collect(Path(folder) / "photographs")
        memory, settings = str(ROOT / "checkpoints" / "emoji"), {"GCR_HOME": Path(folder) / "home", "GCR_VISITORS": 1}
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        with running(memory, **settings) as (_, address):
            await_answer(address)
            photograph(browser, address, photographs, arguments.out)
        browser.close()


if __name__ == "__main__":
    main()
