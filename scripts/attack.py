"""Attacks an app for strangers in every way that once stopped it, while one more visitor searches once a second.

    python scripts/attack.py [--seconds 120] [--within 2] [--attacks pictures floods ...]

Starts `app.py` with GCR_VISITORS=1 in a temporary folder. Each kind of attack is made by a visitor of its own, over and
over; in the end the process of the memory is suspended. Prints how the attackers were answered and what was measured:
the other visitor's answers, the most memory that all processes of the app took above what they take idle, the bytes
that it kept, and how long the suspended process went unnamed. What passes a limit ends the script with status 1:
--within seconds, 1.5 GiB, the budgets that the app was given. Seconds are those of a machine that has two cores for
this alone. Linux only.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import queue
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20
MEMORY_BYTES = 1536 * MIB
"""The most that the app may take above what it takes idle."""
NAMED_WITHIN = 20.0
"""Seconds after which a suspended process must be named."""
BUDGETS = {
    "uploaded_bytes": 1024 * MIB,
    "uploaded_bytes_in_all": 2048 * MIB,
    "kept_bytes": 256 * MIB,
    "kept_bytes_in_all": 512 * MIB,
}
"""GCR_MAX_… of the app."""
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.25
API = "gradio_api"
QUERIES = ("a happy dog", "slice of pepperoni pizza", "stormy weather", "going to the beach")
Harm = Callable[["Visitor"], object]


class Visitor:
    """Somebody with a secret and an address of their own, who asks as a browser does."""

    def __init__(self, address: str, patience: float = PATIENCE_SECONDS) -> None:
        self.address = address
        from_ = ".".join(str(11 + secrets.randbelow(60)) for _ in range(4))
        headers = {"X-GCR-Owner": secrets.token_urlsafe(32), "X-Forwarded-For": from_}
        self.http = httpx.Client(base_url=address, headers=headers, timeout=patience)
        self.functions = self.http.get("config").json()["dependencies"]
        self.session = secrets.token_hex(6)

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """The file that was uploaded. Raises ValueError with the words of a refusal."""
        path = told(self.http.post(f"{API}/upload", files={"files": (name, data)})).json()[0]
        return {"path": path, "orig_name": name, "name": name, "meta": {"_type": "gradio.FileData"}}

    def begin(self, target: str, data: list[Any], event: Any = None) -> None:
        """Has an event of the page begin that has this target."""
        function = next(
            each
            for each in self.functions
            if each["backend_fn"]
            and len(each["inputs"]) == len(data)
            and target in [name for _, name in each["targets"]]
        )
        body = {"data": data, "event_data": event, "fn_index": function["id"], "session_hash": self.session}
        told(self.http.post(f"{API}/queue/join", json=body))

    def heard(self) -> str:
        """All that the server says of what this visitor has begun."""
        return self.http.get(f"{API}/queue/data", params={"session_hash": self.session}).text

    def ask(self, name: str, *values: Any) -> str:
        """The number of a question of the API that is under way. Raises ValueError with the words of a refusal."""
        return str(told(self.http.post(f"{API}/call/{name}", json={"data": values})).json()["event_id"])

    def call(self, name: str, *values: Any) -> Any:
        """What the API answers. Raises ValueError with what it says instead."""
        said = self.http.get(f"{API}/call/{name}/{self.ask(name, *values)}").text
        if not (found := re.findall(r"event: complete\ndata: (.*)", said)):
            raise ValueError(said[-300:])
        return json.loads(found[-1])[0]

    def drop(self, kind: str, name: str, data: bytes) -> None:
        """Drops a file, as "memory" or "pictures"."""
        self.begin("dropped", [""], {"drop": kind, "files": [self.upload(name, data)]})


def told(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        raise ValueError(f"{response.status_code}: {response.text[:300]}")
    return response


def at_once(function: Callable[[], object], times: int) -> str:
    """Does it so many times at once; the words of all refusals."""
    refusals: list[str] = []

    def run() -> None:
        try:
            function()
        except (httpx.HTTPError, ValueError) as refusal:
            refusals.append(str(refusal))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return " ".join(refusals)


def pictures() -> Harm:
    """Searches with pictures that take long or much."""
    sent = hostile.pictures()

    def harm(visitor: Visitor) -> str:
        for data in sent:
            file = visitor.upload("large.jpg", data)
            visitor.begin("submit", [{"text": "", "files": [file]}, 10, 10, "", ""])
        return visitor.heard()

    return harm


def memories() -> Harm:
    """Opens memories that mean harm, and asks the one that means none."""
    sent = list(hostile.memories())

    def harm(visitor: Visitor) -> str:
        heard = []
        for data in sent:
            visitor.drop("memory", "memory.zip", data)
            heard.append(visitor.heard())
            for row in visitor.call("memories", "list")["memories"]:
                visitor.call("search", "a", 10, 300, row["id"])
        return " ".join(heard)

    return harm


def uploads() -> Harm:
    """Sixteen uploads at once, of visitors who are new each time."""
    data = secrets.token_bytes(40 * MIB)

    def harm(visitor: Visitor) -> str:
        return at_once(lambda: Visitor(visitor.address).upload("a.png", data), 16)

    return harm


def imports() -> Harm:
    """Begins imports of large pictures, and goes away."""
    data = hostile.gallery()

    def harm(visitor: Visitor) -> str:
        gone = Visitor(visitor.address)
        gone.drop("pictures", "pictures.zip", data)
        gone.http.close()
        visitor.drop("pictures", "pictures.zip", data)
        return visitor.heard()

    return harm


def floods() -> Harm:
    """Hundreds of slow searches, none of which is waited for."""

    def harm(visitor: Visitor) -> str:
        return at_once(lambda: visitor.ask("search", f"a {secrets.token_hex(40)} that nobody has seen", 10, 900), 230)

    return harm


def bodies() -> Harm:
    """A hundred megabytes of JSON."""
    body, headers = b'{"data": [' + b"[[],{}]," * 12_500_000 + b"1]}", {"Content-Type": "application/json"}

    def harm(visitor: Visitor) -> str:
        paths = ("queue/join", "call/search", "run/search")
        return " ".join(visitor.http.post(f"{API}/{path}", content=body, headers=headers).text for path in paths)

    return harm


def connections() -> Harm:
    """Hundreds of connections that say a little, or nothing."""
    head = f"POST /{API}/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{{".encode()

    def harm(visitor: Visitor) -> None:
        place = visitor.http.base_url.host, visitor.http.base_url.port
        with contextlib.ExitStack() as held:
            for number in range(300):
                connection = held.enter_context(socket.create_connection(place))
                connection.sendall(head[: len(head) if number % 2 else 20])
            time.sleep(10)

    return harm


ATTACKS = {attack.__name__: attack for attack in (pictures, memories, uploads, imports, floods, bodies, connections)}


class Watch(threading.Thread):
    """Looks what an app takes: the proportional set size of all its processes, and the bytes in its folders."""

    def __init__(self, app: psutil.Process, place: Path) -> None:
        super().__init__(daemon=True)
        self.app, self.place, self.over = app, place, threading.Event()
        self.idle = self.memory = self.peak = self.kept = 0
        self.at_peak: list[str] = []

    def run(self) -> None:
        while not self.over.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        taken = {}
        with contextlib.suppress(psutil.Error):
            for process in (self.app, *self.app.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    taken[process.pid] = process.memory_full_info().pss
        self.memory = sum(taken.values())
        if self.memory > self.peak:
            self.peak, self.at_peak = self.memory, [f"{size // MIB:,}" for size in sorted(taken.values())[::-1]]
        kept = 0
        for folder, _, names in os.walk(self.place):
            for name in names:
                with contextlib.suppress(OSError):
                    kept += Path(folder, name).lstat().st_blocks * 512
        self.kept = max(self.kept, kept)


def stranger(address: str, over: threading.Event, times: list[float], errors: Counter[str]) -> None:
    """Searches once a second, by a connection of its own each time: an idle one may be closed at any moment."""
    visitor, number = Visitor(address), 0
    visitor.http.headers["Connection"] = "close"
    while not over.is_set():
        began, number = time.monotonic(), number + 1
        try:
            visitor.call("search", f"{QUERIES[number % len(QUERIES)]} {number}")
            times.append(time.monotonic() - began)
        except (httpx.HTTPError, ValueError) as error:
            errors[f"{type(error).__name__}: {error}"[:200]] += 1
        over.wait(max(0.0, 1.0 - (time.monotonic() - began)))


def attacking(address: str, name: str, ends: Any) -> None:
    """Does harm over and over, as one visitor, in a process of its own; says how each round ended, without numbers."""
    visitor, harm = Visitor(address), ATTACKS[name]()
    while True:
        try:
            end = str(harm(visitor) or "all was answered")
        except (httpx.HTTPError, ValueError) as error:
            end = f"{type(error).__name__}: {error}"
            time.sleep(1)
        for words in set(re.findall(r"the limit[^\"\\<]*|takes more than[^\"\\<]*", end)) or {end[:90]}:
            ends.put(f"{name}: {re.sub(r'[0-9,.]+', '…', words)[:90]}")


def all_of(ends: Any) -> Iterator[str]:
    """What is in a queue at this moment."""
    with contextlib.suppress(queue.Empty):
        while True:
            yield ends.get(timeout=1)


def suspended(app: psutil.Process, address: str) -> tuple[float, float]:
    """Suspends the process of the memory: after how many seconds that is said, and another has taken its place."""
    spawned = [child for child in app.children() if "spawn_main" in " ".join(child.cmdline())]
    process = min(spawned, key=lambda child: child.create_time())
    process.suspend()
    began = time.monotonic()
    until(lambda: health(address) == 503)
    named = time.monotonic() - began
    until(lambda: not process.is_running() and health(address) == 200)
    return named, time.monotonic() - began


def health(address: str) -> int:
    """The status of /health; 0 while the app, or its memory, is not there."""
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(f"{address}health", timeout=PATIENCE_SECONDS)
        return answer.status_code if answer.json()["memory"] != "waking" else 0
    return 0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the app is not back after {PATIENCE_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def serving(place: Path) -> Iterator[tuple[psutil.Process, str]]:
    """An app for strangers that keeps all in a folder, and its address, once its memory is there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}/"
    (place / "tmp").mkdir()
    given = {"VISITORS": 1, "HOME": place / "home", **{f"MAX_{name.upper()}": size for name, size in BUDGETS.items()}}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GCR_")}
    environment |= {f"GCR_{name}": str(value) for name, value in given.items()} | {"TMPDIR": str(place / "tmp")}
    with (place / "log").open("w") as log:
        command = [sys.executable, "app.py", "--port", port]
        app = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: health(address) == 200)
        yield psutil.Process(app.pid), address
    finally:
        app.terminate()
        app.wait()
        if "Traceback" in (log_text := (place / "log").read_text()):
            print(log_text[-3000:], file=sys.stderr)


def attack(names: list[str], seconds: float, within: float) -> list[str]:
    """Prints what was measured; the limits that were passed."""
    context = multiprocessing.get_context("spawn")
    ends, over, errors = context.Queue(), threading.Event(), Counter[str]()
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as (app, address):
        Visitor(address).call("search", QUERIES[0])
        watch = Watch(app, Path(folder))
        watch.look()
        idle = watch.memory
        watch.start()
        searching = threading.Thread(target=stranger, args=(address, over, times, errors), daemon=True)
        searching.start()
        attackers = [context.Process(target=attacking, args=(address, name, ends), daemon=True) for name in names]
        for name, attacker in sorted(zip(names, attackers, strict=True), key=lambda each: each[0] == "uploads"):
            if name == "uploads":
                time.sleep(0.8 * seconds)  # what they take is taken from the uploads of others
            attacker.start()
        time.sleep((0.2 if "uploads" in names else 1.0) * seconds)
        over.set()
        searching.join()
        for attacker in attackers:
            attacker.terminate()
        named, well = suspended(app, address)
        Visitor(address).call("search", QUERIES[0])
        watch.over.set()
        watch.join()
    for end, times_ in sorted(Counter(all_of(ends)).items()):
        print(f"{times_:>6,} times {end}")
    median, worst = statistics.median(times or [0.0]), max(times, default=0.0)
    print(f"the other visitor: {len(times)} answers, median {median:.2f} s, worst {worst:.2f} s, errors {dict(errors)}")
    print(f"memory: {(watch.peak - idle) / MIB:,.0f} MiB above the {idle / MIB:,.0f} idle, at most {watch.at_peak[:9]}")
    print(
        f"disk: {watch.kept / MIB:,.0f} MiB; a suspended process: named after {named:.0f} s, replaced after {well:.0f}"
    )
    kept = BUDGETS["uploaded_bytes_in_all"] + BUDGETS["kept_bytes_in_all"]
    limits = {
        f"{errors.total()} errors, the limit is 0": not errors and bool(times),
        f"the worst answer took {worst:.2f} s, the limit is {within:.2f}": worst <= within,
        f"the memory passed {MEMORY_BYTES / MIB:,.0f} MiB above idle": watch.peak - idle <= MEMORY_BYTES,
        f"the disk passed {kept / MIB:,.0f} MiB": watch.kept <= kept,
        f"the suspended process was named after {named:.0f} s, the limit is {NAMED_WITHIN:.0f}": named <= NAMED_WITHIN,
    }
    return [words for words, is_kept in limits.items() if not is_kept]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="for how long it is attacked (default: %(default)s)")
    parser.add_argument("--within", type=float, default=2, help="seconds for an answer (default: %(default)s)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the app is ended too
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=list(ATTACKS))
    options = parser.parse_args()
    passed = attack(options.attacks, options.seconds, options.within)
    print("\n".join(passed))
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
