"""Runs the Dockerfile's steps without Docker, then the app as a container would: as root, with debootstrap,

    python scripts/check_dockerfile.py WORK [--build-arg NAME=VALUE]... [--env NAME=VALUE]... [--bind DIR]...

WORK is an empty folder for about 3 GB. A Debian root with its own Python stands for the base image; every instruction
runs in it in order, with the files that .dockerignore lets through. Then CMD runs with a read-only file system but for
/tmp and /data, as the image's user and as process 1, until the HEALTHCHECK passes; it is asked a query, must not be
able to write where its code is, and must end on STOPSIGNAL. --bind shows the steps a folder of this machine, --env
gives them a variable: for machines that reach package indexes in ways of their own.
"""

import argparse
import fnmatch
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = {"python:3.11-slim-bookworm": "bookworm"}
"""Base image → the Debian whose own Python is of the same version."""
OURS = ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt")
START_SECONDS, STOP_SECONDS = 180, 15
ADDRESS = "http://127.0.0.1:7860"


class Image:
    """A root folder and what the instructions so far say of those to come."""

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        self.root, self.binds = root, options.bind
        self.given = dict(pair.split("=", 1) for pair in options.build_arg)
        self.outside = dict(pair.split("=", 1) for pair in options.env)
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.arguments: dict[str, str] = {}
        self.folder, self.user, self.stop = "/", "root", "SIGTERM"
        self.command: list[str] = []
        self.health: list[str] = []

    def do(self, instruction: str, rest: str) -> None:
        """One instruction. Raises SystemExit for one that this script does not know."""
        match instruction:
            case "FROM":
                self._debian(SUITES[rest])
            case "ARG":
                name, _, value = rest.partition("=")
                self.arguments[name] = self.given.get(name, value)
            case "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "WORKDIR":
                self.folder = rest
                (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = rest
            case "COPY":
                self._copy(rest.split())
            case "RUN":
                self.run(["sh", "-c", rest])
            case "EXPOSE":
                assert rest == "7860", f"port {rest} is exposed, Spaces ask at 7860"
            case "STOPSIGNAL":
                self.stop = rest
            case "HEALTHCHECK":
                self.health = json.loads(rest.partition("CMD ")[2])
            case "CMD":
                self.command = json.loads(rest)
            case _:
                sys.exit(f"{instruction} is no instruction that this script can run")

    def run(self, command: list[str]) -> None:
        """A step of the build: in the root, as the user, with the machine's network."""
        variables = self.environment | self.arguments | self.outside
        shown = "".join(f"mount --rbind {folder} {self._shown(folder)}; " for folder in self.binds)
        prepare = f"set -e; mount -t proc proc {self.root}/proc; mount --rbind /dev {self.root}/dev; {shown}"
        subprocess.run(["unshare", "--mount", *self._within(prepare, command, variables)], check=True)

    def start(self, data: Path, log: Path) -> subprocess.Popen:
        """The container: the root read-only, /tmp and /data writable, the command as process 1."""
        prepare = (
            f"set -e; mount --bind {self.root} {self.root}; mount -o remount,bind,ro {self.root}; "
            f"mount -t proc proc {self.root}/proc; mount --rbind /dev {self.root}/dev; "
            f"mount -t tmpfs tmpfs {self.root}/tmp; mount --bind {data} {self.root}/data; "
        )
        command = self._within(prepare, self.command, self.environment)
        with log.open("w") as output:
            return subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", *command], stdout=output, stderr=output
            )

    def _within(self, prepare: str, command: list[str], variables: dict[str, str]) -> list[str]:
        pairs = [f"{name}={value}" for name, value in variables.items()]
        inside = ["env", "--ignore-environment", f"--chdir={self.folder}", *pairs, *command]
        script = prepare + shlex.join(["exec", "chroot", f"--userspec={self.user}", str(self.root), *inside])
        return ["sh", "-c", script]

    def _shown(self, folder: str) -> Path:
        place = self.root / folder.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _debian(self, suite: str) -> None:
        """A minimal Debian with pip; `python` and what pip installs are where the base image has them."""
        extra = "--include=python3,python3-dev,python3-pip,ca-certificates"
        subprocess.run(["debootstrap", "--variant=minbase", extra, suite, self.root], check=True)
        for path in OURS:
            shutil.copyfile(Path("/") / path, self.root / path)
        for marker in self.root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (self.root / "usr/local/bin/python").symlink_to("/usr/bin/python3")

    def _copy(self, words: list[str]) -> None:
        mode = next((int(word.removeprefix("--chmod="), 8) for word in words if word.startswith("--chmod=")), None)
        source, target = [word for word in words if not word.startswith("--")]
        into = self.root / Path(self.folder, target).as_posix().lstrip("/")
        for path in context():
            if source not in (".", path.as_posix()):
                continue
            place = into / path
            for folder in [*reversed(place.relative_to(into).parents)][1:]:
                (into / folder).mkdir(exist_ok=True)
                (into / folder).chmod(mode or 0o755)
            shutil.copy(ROOT / path, place)
            os.chown(place, 0, 0)
            if mode is not None:
                place.chmod(mode)


def context() -> Iterator[Path]:
    """The files that .dockerignore leaves, relative to the repository."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    def kept(path: Path) -> bool:
        names, here = [path.as_posix(), *(parent.as_posix() for parent in path.parents)], True
        for pattern in patterns:
            bare = pattern.lstrip("!")
            forms = (bare, bare.removeprefix("**/"), f"*/{bare.removeprefix('**/')}" if "**/" in bare else bare)
            if any(fnmatch.fnmatchcase(name, form) for name in names for form in forms):
                here = pattern.startswith("!")
        return here

    for below, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name not in (".git", ".venv", "runs"))
        for name in sorted(names):
            path = Path(below, name).relative_to(ROOT)
            if kept(path):
                yield path


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions with what follows them, lines joined, comments left out."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        instruction, rest = line.split(maxsplit=1)
        yield instruction, rest


def get(path: str) -> bytes:
    with urllib.request.urlopen(ADDRESS + path, timeout=30) as answer:
        return answer.read()


def child_of(pid: int) -> int:
    """The process that `unshare --fork` started: process 1 in there."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def await_health(image: Image, server: subprocess.Popen, log: Path) -> float:
    """Seconds until the HEALTHCHECK's own command passes."""
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        assert server.poll() is None, f"the app ended on its own:\n{log.read_text()}"
        check = subprocess.run(["chroot", "--userspec=user", str(image.root), *image.health], capture_output=True)
        if check.returncode == 0:
            return time.monotonic() - started
        time.sleep(0.5)
    raise SystemExit(f"the health check did not pass within {START_SECONDS} s:\n{log.read_text()}")


def ask(query: str) -> list[str]:
    """File names that the running app recalls, through its API."""
    body = json.dumps({"data": [query, 5, 10, ""]}).encode()
    headers = {"Content-Type": "application/json", "X-GCR-Owner": "x" * 32}
    request = urllib.request.Request(f"{ADDRESS}/gradio_api/call/search", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        event = json.load(answer)["event_id"]
    lines = get(f"/gradio_api/call/search/{event}").decode().splitlines()
    data = next(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
    return [hit["file_name"] for hit in json.loads(data)[0]["generative"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--build-arg", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--bind", action="append", default=[])
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would have it ignored
    options.work.mkdir(parents=True, exist_ok=True)
    if any(options.work.iterdir()):
        sys.exit(f"{options.work} is not empty: name a folder that is")
    image = Image(options.work.absolute() / "root", options)
    for instruction, rest in instructions():
        started = time.monotonic()
        print(f"== {instruction} {rest}", flush=True)
        image.do(instruction, rest)
        print(f"   {time.monotonic() - started:.1f} s", flush=True)

    data, log = options.work.absolute() / "data", options.work / "app.log"
    data.mkdir()
    os.chown(data, 1000, 1000)
    server = image.start(data, log)
    try:
        print(f"healthy after {await_health(image, server, log):.1f} s")
        app = child_of(server.pid)
        status = Path(f"/proc/{app}/status").read_text()
        assert "\nUid:\t1000\t1000\t1000\t1000\n" in status, f"the app does not run as user 1000:\n{status}"
        home = f"/proc/{app}/root{image.folder}"
        code = [Path(home, name) for name in ("app.py", "gcr_core", "checkpoints/emoji/memory.json")]
        assert all(path.stat().st_uid == 0 and not path.stat().st_mode & 0o022 for path in code)
        tried = subprocess.run(["nsenter", f"--target={app}", "--mount", "--root", "touch", f"{image.folder}/new"])
        assert tried.returncode, "the code folder can be written"
        print(f"user 1000 on port 7860, code folder read-only; 'a happy dog': {', '.join(ask('a happy dog'))}")
        kept = sorted(path.relative_to(data).as_posix() for path in data.rglob("*"))[:5]
        print(f"written below /data: {', '.join(kept)}")
        os.kill(app, signal.Signals[image.stop])
        server.wait(STOP_SECONDS)
        print(f"ended on {image.stop}")
    finally:
        server.kill()


if __name__ == "__main__":
    main()
