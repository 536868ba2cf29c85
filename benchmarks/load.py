"""How the app bears many clients at once: python benchmarks/load.py ADDRESS [--clients 1,8,32,128] [--seconds 60]

Asks a running app's endpoint /search as so many visitors at a time, each with a secret of its own, who ask again once
they are answered. With --training one more visitor memorises a small gallery over and over meanwhile. Prints for each
number of clients: answers, errors, the 50th and 95th percentile of the time to an answer, and what the app's processes
hold in the end: memory and open files, where they are on this machine. With --soak MINUTES the first number of clients
asks for so long, and there is such a line at the start and for each minute.
"""

import argparse
import contextlib
import io
import itertools
import json
import random
import secrets
import statistics
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
QUERIES = ROOT / "assets" / "emoji_queries.jsonl"
PICTURES = ROOT / "assets" / "emoji.zip"
FEW = 60
"""Pictures of the gallery that is memorised meanwhile."""
API = "gradio_api/call"
PATIENCE_SECONDS = 120
LOOK_SECONDS = 1
COLUMNS = ("clients", "answers", "errors", "p50_s", "p95_s", "rss_mb", "files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="of the running app, as http://127.0.0.1:7860")
    parser.add_argument("--clients", default="1,8,32,128", help="how many at a time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="for how long each (default: %(default)s)")
    parser.add_argument("--training", action="store_true", help="a small gallery is memorised over and over meanwhile")
    parser.add_argument("--soak", type=int, metavar="MINUTES", help="asks for so long, with a line for each minute")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    options = parser.parse_args()
    address = options.address.rstrip("/") + "/"
    queries = [json.loads(line)["query"] for line in QUERIES.read_text(encoding="utf-8").splitlines()]
    numbers = list(map(int, options.clients.split(",")))
    runs = [(clients, options.seconds) for clients in numbers]
    if options.soak:
        runs = [(numbers[0], 0), *[(numbers[0], 60)] * options.soak]
    if not options.json:
        print("".join(f"{name:>10}" for name in COLUMNS))
    errors = 0
    with memorising(address) if options.training else contextlib.nullcontext():
        for clients, seconds in runs:
            figures = load(address, queries, clients, seconds)
            kinds = figures.pop("kinds")
            errors += figures["errors"]
            print(
                json.dumps(figures) if options.json else "".join(f"{figures[name]:>10}" for name in COLUMNS), flush=True
            )
            for words, count in kinds.most_common(3):
                print(f"  {count:,} times: {words}", file=sys.stderr)
    sys.exit(1 if errors else 0)


def load(address: str, queries: list[str], clients: int, seconds: float) -> dict:
    """The figures of so many clients at a time; "kinds" counts what was wrong, in words."""
    times: list[float] = []
    kinds: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def ask() -> None:
        with visitor(address) as client:
            while time.monotonic() < until:
                begun = time.monotonic()
                try:
                    answer(client, "search", random.choice(queries), 10, 10)
                    times.append(time.monotonic() - begun)
                except (httpx.HTTPError, ValueError) as error:
                    kinds[f"{type(error).__name__}: {error}"[:200]] += 1

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = processes(address)
    cuts = statistics.quantiles(times, n=20, method="inclusive") if len(times) > 1 else [0.0] * 19
    return {
        "clients": clients,
        "answers": len(times),
        "errors": kinds.total(),
        "p50_s": round(cuts[9], 3),
        "p95_s": round(cuts[18], 3),
        "rss_mb": round(sum(process.memory_info().rss for process in held) / 1e6),
        "files": sum(process.num_fds() for process in held),
        "kinds": kinds,
    }


@contextlib.contextmanager
def memorising(address: str) -> Iterator[None]:
    """A visitor memorises a small gallery over and over while the block lasts."""
    over, states = threading.Event(), Counter[str]()

    def memorise() -> None:
        with visitor(address) as client:
            while not over.is_set():
                states[memorised(client, over)] += 1

    thread = threading.Thread(target=memorise)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        print(f"trainings meanwhile, by how they ended: {dict(states)}", file=sys.stderr)


def memorised(client: httpx.Client, over: threading.Event) -> str:
    """How a training ended, which is stopped once it is `over`; nothing of it is left. An error in words."""
    try:
        files = {"files": ("few.zip", small_gallery())}
        sent = client.post("gradio_api/upload", files=files)
        sent.raise_for_status()
        given = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in sent.json()]
        job = answer(client, "memorize", given, "quick")
        while job["state"] in ("queued", "running", "stopping"):
            time.sleep(LOOK_SECONDS)
            job = answer(client, "job", job["id"], "stop" if over.is_set() else "status")
        if memory := job.get("memory"):
            answer(client, "memories", "delete", memory)  # and its job
        else:
            answer(client, "job", job["id"], "remove")
        return job["state"]
    except (httpx.HTTPError, ValueError) as error:
        over.wait(LOOK_SECONDS)
        return f"{type(error).__name__}: {error}"[:200]


def small_gallery() -> bytes:
    """A zip of the first FEW pictures of the sample gallery, with their captions."""
    few = io.BytesIO()
    with zipfile.ZipFile(PICTURES) as whole, zipfile.ZipFile(few, "w") as part:
        rows = whole.read("metadata.jsonl").splitlines(keepends=True)[:FEW]
        part.writestr("metadata.jsonl", b"".join(rows))
        for name in (json.loads(row)["file_name"] for row in rows):
            part.writestr(name, whole.read(name))
    return few.getvalue()


def visitor(address: str) -> httpx.Client:
    headers = {"X-GCR-Owner": secrets.token_urlsafe(32)}
    return httpx.Client(base_url=address, headers=headers, timeout=PATIENCE_SECONDS)


def answer(client: httpx.Client, name: str, *values: object) -> dict:
    """What an endpoint answers. Raises HTTPError, ValueError for an answer that is an error."""
    begun = client.post(f"{API}/{name}", json={"data": values})
    if begun.is_error:
        raise ValueError(f"{begun.status_code}: {begun.text[:200]}")
    lines = client.get(f"{API}/{name}/{begun.json()['event_id']}").text.splitlines()
    data = next((line for before, line in itertools.pairwise(lines) if before == "event: complete"), "")
    if not data:
        raise ValueError(" ".join(lines)[-200:])
    return json.loads(data.removeprefix("data: "))[0]


def processes(address: str) -> list[psutil.Process]:
    """The app's processes: the one that listens at the address, and those below it; none where it is elsewhere."""
    port = urlsplit(address).port or 80
    with contextlib.suppress(psutil.Error):
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        pids = {each.pid for each in listening if each.laddr.port == port and each.pid}
        return [
            process for pid in pids for app in [psutil.Process(pid)] for process in (app, *app.children(recursive=True))
        ]
    return []


if __name__ == "__main__":
    main()
