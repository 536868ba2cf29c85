"""How the app takes in many pictures: python benchmarks/importing.py [--pictures N] [--json]

Generates a zip of photographs (JPEG of 640 x 480, every tenth of 4000 x 3000, one in fifty there twice) with captions
and drops it on the page, in Chromium, of an app in a process of its own. Meanwhile, until the page says how long a
training would take, the page, its configuration and /health are asked for in turn, ten times a second. Times are
seconds; memory is the sum of what each process of the app had at its largest.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.request
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Page, Response
from search import ROOT, await_answer, opened_page, peak_rss, running
from tqdm import tqdm

SMALL, LARGE = (640, 480), (4000, 3000)
LARGE_EVERY = 10
TWICE_EVERY = 50
PIXELS_A_DETAIL = 12
LIGHT = ("", "config", "health")
ASK_EVERY_SECONDS = 0.1
PATIENCE_MS = 3_600_000
BOUNDS = {"light_request_max": 1, "pictures_in_the_html": 0, "peak_rss_mb": 3000}


def make_zip(path: Path, count: int) -> None:
    """Writes the pictures and their captions into a zip."""
    rows = ["file_name,text"]
    with zipfile.ZipFile(path, "w") as members:
        for number in tqdm(range(count), "pictures", disable=None, leave=False):
            name = f"photo-{number:05}.jpg"
            members.writestr(name, picture(number - 1 if number % TWICE_EVERY == 1 else number))
            rows.append(f"{name},a picture called {number}")
        members.writestr("metadata.csv", "\n".join(rows))


def picture(seed: int) -> bytes:
    """A JPEG of noise, coarse as a photograph's details, on a gradient."""
    width, height = LARGE if seed % LARGE_EVERY == 0 else SMALL
    details = (height // PIXELS_A_DETAIL, width // PIXELS_A_DETAIL, 3)
    noise = np.random.default_rng(seed).integers(0, 128, details, np.uint8)
    gradient = np.linspace(0, 127, details[1], dtype=np.uint8)[None, :, None]
    file = BytesIO()
    Image.fromarray(noise + gradient).resize((width, height), Image.Resampling.BILINEAR).save(file, "JPEG", quality=85)
    return file.getvalue()


class Watch(threading.Thread):
    """Asks an app for what is light and looks at its memory until the block ends."""

    def __init__(self, app: psutil.Process, address: str) -> None:
        super().__init__(daemon=True)
        self.asked: list[tuple[float, str, float]] = []
        """(seconds that the answer took, path, seconds since the drop when it came)"""
        self.peaks: dict[int, int] = {}
        self._app, self._address, self._over = app, address, threading.Event()
        self._failed: OSError | None = None

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        if self._failed:
            raise self._failed

    def run(self) -> None:
        first = time.perf_counter()
        while not self._over.wait(ASK_EVERY_SECONDS):
            path, began = LIGHT[len(self.asked) % len(LIGHT)], time.perf_counter()
            try:
                with urllib.request.urlopen(self._address + path) as answer:
                    answer.read()
            except OSError as error:
                self._failed = error
                return
            now = time.perf_counter()
            self.asked.append((now - began, path, now - first))
            for process in (self._app, *self._app.children(recursive=True)):
                try:
                    self.peaks[process.pid] = peak_rss(process.pid)
                except (OSError, StopIteration):
                    continue  # It has just ended.


def measure(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, opened_page() as page:
        folder = Path(name)
        make_zip(folder / "photos.zip", count)
        places = {"GCR_HOME": folder / "home", "GRADIO_TEMP_DIR": folder / "uploads"}
        with running(str(ROOT / "checkpoints" / "emoji"), **places) as (app, address):
            await_answer(address)
            page.set_default_timeout(PATIENCE_MS)
            page.goto(address)
            page.locator("#state").get_by_text("ready").wait_for()
            page.get_by_role("tab", name="Memorise").click()
            with Watch(app, address) as watch:
                figures = drop(page, folder / "photos.zip")
        longest, path, when = max(watch.asked)
        return {
            "pictures": count,
            **figures,
            "light_requests": len(watch.asked),
            "light_request_median": round(statistics.median(seconds for seconds, _, _ in watch.asked), 3),
            "light_request_max": round(longest, 3),
            "light_request_slowest": f"/{path} after {when:.0f} s",
            "peak_rss_mb": round(sum(watch.peaks.values()) / 1e6),
        }


def drop(page: Page, archive: Path) -> dict[str, Any]:
    """Seconds from the drop to each thing that the page shows, and how its pictures reached it."""
    files: list[str] = []

    def note(response: Response) -> None:
        kind = response.headers.get("content-type", "")
        if "/thumbnail/" in response.url and response.ok and kind.startswith("image/"):
            files.append(response.url)

    page.on("response", note)
    chosen = page.locator("#prepare input[multiple]")
    began = time.perf_counter()
    chosen.set_input_files(archive)
    page.locator("#prepare .panel").wait_for()
    uploaded = time.perf_counter() - began
    report = page.locator(".taken").inner_text()
    reported = time.perf_counter() - began
    for thumbnail in page.locator("#captions img").all():
        thumbnail.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('#captions img')].every(image => image.naturalWidth)")
    shown = time.perf_counter() - began
    page.locator(".preset i").get_by_text("about").first.wait_for()
    return {
        "report": report,
        "until_uploaded": round(uploaded, 1),
        "until_the_report": round(reported, 1),
        "until_the_thumbnails": round(shown, 1),
        "until_the_estimate": round(time.perf_counter() - began, 1),
        "thumbnails_as_files": len(set(files)),
        "pictures_in_the_html": page.locator("#memorise").inner_html().count("data:image"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5_000, help="how many (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    figures = measure(options.pictures)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        bound = f"   (at most {BOUNDS[name]:,})" if name in BOUNDS else ""
        print(f"{name:22} {value:>10}{bound}" if isinstance(value, str) else f"{name:22} {value:>10,}{bound}")


if __name__ == "__main__":
    main()
