"""How the app answers, from `python app.py` to its end: python benchmarks/search.py [--memory DIR] [--json]

Starts the app in a process of its own. An open Chromium paints the page, asks the first query the
moment the box is there, waits for the cards, and opens their pictures in the lightbox, one after the other. Then the
endpoint /search is asked, one query at a time.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
QUERIES = ROOT / "assets" / "emoji_queries.jsonl"
START_SECONDS = 120
WARM_UP = 5
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
LOOKED_AT = 20
LOOK = """async (at) => {
  const began = performance.now(), since = () => performance.now() - began;
  document.querySelectorAll("#results [data-picture]")[at].click();
  const { small, stage } = lightbox.parts;
  await small.decode();
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  const opened = since();
  while (!stage.matches(".sharp")) await new Promise((go) => setTimeout(go, 1));
  const sharp = since();
  await lightbox.close();
  return [opened, sharp];
}"""
"""Opens a result: milliseconds until the thumbnail is painted in large, and until the original is there."""
BOUNDS = {"first_answer_s": 6, "lightbox_ms_p50": 100, "both_sides_ms_p50": 60, "peak_rss_mb": 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", default=str(ROOT / "checkpoints" / "emoji"), help="default: %(default)s")
    parser.add_argument("--queries", type=int, default=200, help="how many are asked (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    lines = QUERIES.read_text(encoding="utf-8").splitlines()
    queries = [json.loads(line)["query"] for line in lines[: options.queries]]
    figures = measure(options.memory, queries)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        bound = f"   (at most {BOUNDS[name]})" if name in BOUNDS else ""
        print(f"{name:24} {value:>10,}{bound}")


def measure(memory: str, queries: list[str]) -> dict[str, Any]:
    """All figures of one life of the app: seconds from its start, milliseconds a query, MB at its largest."""
    with opened_page() as page:
        started = time.perf_counter()
        with running(memory) as (app, address):
            figures = start(page, address, started) | looks(page) | steady(address, queries)
            peak = sum(peak_rss(process.pid) for process in (app, *app.children(recursive=True)))
    return figures | {"peak_rss_mb": round(peak / 1e6)}


@contextmanager
def opened_page() -> Iterator[Page]:
    """An empty page in Chromium, which ends with the block."""
    names = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
    chromium = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        try:
            yield browser.new_page()
        finally:
            browser.close()


@contextmanager
def running(memory: str, **variables: object) -> Iterator[tuple[psutil.Popen, str]]:
    """The process and the address of an app that has just been started, with these environment variables; it ends with
    the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = psutil.Popen(
        [sys.executable, "app.py", "--memory", memory, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
    )
    try:
        yield app, f"http://127.0.0.1:{port}/"
    finally:
        app.terminate()
        app.wait()


def peak_rss(pid: int) -> int:
    """The most bytes that a process ever had in memory, shared ones included; Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def start(page: Page, address: str, started: float) -> dict[str, float]:
    """Seconds from `started` until a person sees the page, and the cards of a query typed at once."""
    await_answer(address)
    page.goto(address, wait_until="commit")
    box = page.locator("#query textarea")
    box.wait_for()
    painted = time.perf_counter() - started
    box.fill("a happy dog")
    box.press("Enter")
    page.locator(".side.dense .card .score").first.wait_for(timeout=1000 * START_SECONDS)
    return {"first_paint_s": round(painted, 2), "first_answer_s": round(time.perf_counter() - started, 2)}


def looks(page: Page) -> dict[str, float]:
    """Milliseconds from the click on a result until it is seen in large, and until its original is, without waits on
    the network: the app is on the same machine."""
    shown = page.locator("#results [data-picture]").count()
    times = [page.evaluate(LOOK, at % shown) for at in range(LOOKED_AT)]
    opened, sharp = (statistics.median(each) for each in zip(*times, strict=True))
    return {"lightbox_ms_p50": round(opened), "lightbox_original_ms_p50": round(sharp)}


def await_answer(address: str) -> None:
    """Returns once the app answers."""
    deadline = time.perf_counter() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.02)


def steady(address: str, queries: list[str]) -> dict[str, float]:
    """Milliseconds of both sides together as the answers tell them, and of whole calls through HTTP."""
    for query in queries[:WARM_UP]:
        ask(address, query)
    both, whole = [], []
    for query in queries:
        began = time.perf_counter()
        answer = ask(address, query)
        whole.append(1000 * (time.perf_counter() - began))
        both.append(sum(answer["latency_ms"].values()))
    return {
        "queries": len(queries),
        "both_sides_ms_p50": round(statistics.median(both), 1),
        "both_sides_ms_p95": round(statistics.quantiles(both, n=20)[-1], 1),
        "http_ms_p50": round(statistics.median(whole), 1),
        "http_ms_p95": round(statistics.quantiles(whole, n=20)[-1], 1),
    }


def ask(address: str, query: str) -> dict[str, Any]:
    """One call of /search, as any HTTP client makes it: a POST, then the stream of its event."""
    body = json.dumps({"data": [query, 10, 10, ""]}).encode()
    request = urllib.request.Request(f"{address}gradio_api/call/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/search/{event}") as stream:
        events = stream.read().decode().split("\n\n")
    for event in events:
        if event.startswith("event: complete\ndata: "):
            return json.loads(event.removeprefix("event: complete\ndata: "))[0]
    raise SystemExit(f"/search failed for {query!r}: {events}")


if __name__ == "__main__":
    main()
