"""How the app bears many clients at once: python benchmarks/load.py ADDRESS [--clients 1,8,32,128] [--seconds 60]

Asks a running app's endpoint /search as so many visitors at a time, each with a secret of its own, who ask again once
they are answered. With --training one more visitor memorises pictures meanwhile, which the app has to be started for.
Prints for each number of clients: answers, errors, the 50th and 95th percentile of the time to an answer, and what the
app's processes hold in the end: memory and open files, where they are on this machine.
"""

import argparse
import contextlib
import itertools
import json
import random
import secrets
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
QUERIES = ROOT / "assets" / "emoji_queries.jsonl"
API = "gradio_api/call"
PATIENCE_SECONDS = 120
COLUMNS = ("clients", "answers", "errors", "p50_s", "p95_s", "rss_mb", "files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="of the running app, as http://127.0.0.1:7860")
    parser.add_argument("--clients", default="1,8,32,128", help="how many at a time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="for how long each (default: %(default)s)")
    parser.add_argument("--training", type=Path, help="a zip of pictures that a visitor memorises meanwhile")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    options = parser.parse_args()
    address = options.address.rstrip("/") + "/"
    queries = [json.loads(line)["query"] for line in QUERIES.read_text(encoding="utf-8").splitlines()]
    if not options.json:
        print("".join(f"{name:>10}" for name in COLUMNS))
    errors = 0
    with memorising(address, options.training) if options.training else contextlib.nullcontext():
        for clients in map(int, options.clients.split(",")):
            figures = load(address, queries, clients, options.seconds)
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
def memorising(address: str, pictures: Path) -> Iterator[None]:
    """A visitor's training goes on while the block lasts, and is stopped then."""
    with visitor(address) as client:
        with pictures.open("rb") as file:
            sent = client.post("gradio_api/upload", files={"files": (pictures.name, file)}, timeout=PATIENCE_SECONDS)
        sent.raise_for_status()
        given = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in sent.json()]
        id = answer(client, "memorize", given, "thorough")["id"]
        print(f"training {id} goes on meanwhile", file=sys.stderr)
        yield
        state = answer(client, "job", id)["state"]
        print(f"in the end the training is {state}", file=sys.stderr)
        answer(client, "job", id, "stop")


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
