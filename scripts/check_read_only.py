"""Runs what writes on a disk that is mounted to be read only: each must end in one line, and nothing be changed.

    sudo unshare --mount python scripts/check_read_only.py --memory FOLDER [--backbone FOLDER --clip FOLDER]

The memory is copied to a disk in memory, which is then mounted read only; by `unshare` nobody else sees that. The
commands that write, and the app with its home there, must end with status 2 and one line; then an app whose home turns
read only while it runs must refuse an import in one line. Linux only, as root.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from gcr_core.memory.memory import Memory
from gcr_core.settings import ROOT, Settings

SAID = "Read-only file system"
PAGE = re.compile(r"The page is at (\S+)/ ")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def fault_of(command: list[str], home: Path) -> str:
    """What is wrong with how a command ended; "" for one line and status 2."""
    environment = {**os.environ, "GCR_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 2 and len(lines) == 1 and SAID in lines[0]:
        return ""
    return f"{' '.join(command[1:5])} ended with {done.returncode}: {lines[-3:]}"


def refused_import(disk: Path, home: Path, memory: Path, picture: Path) -> str:
    """What is wrong with how an import is refused by an app whose disk turns read only; "" for one line."""
    mount("-o", "remount,rw", str(disk))
    command = [sys.executable, "app.py", "--memory", str(memory)]
    environment = {**os.environ, "GCR_HOME": str(home)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as app:
        assert app.stdout
        try:
            found = next(filter(None, map(PAGE.search, app.stdout)))
            while subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True, check=False).returncode:
                time.sleep(0.1)  # the app has a file open at this moment
            before = digest(disk)
            with httpx.Client(base_url=f"{found[1]}/gradio_api/", timeout=120) as page:
                path = page.post("upload", files={"files": ("a.png", picture.read_bytes())}).json()[0]
                asked = {"data": [[{"path": path, "meta": {"_type": "gradio.FileData"}}], "quick"]}
                event = page.post("call/memorize", json=asked).json()["event_id"]
                answer = page.get(f"call/memorize/{event}").text
            changed = " and changed something" if digest(disk) != before else ""
        finally:
            app.kill()
        said = app.stdout.read()
    if "event: error" in answer and SAID in answer and "Traceback" not in said and not changed:
        return ""
    return f"an import was answered {answer!r}{changed}: {said[-500:]}"


def faults(disk: Path, options: argparse.Namespace) -> list[str]:
    mount("-t", "tmpfs", "gcr", str(disk))
    memory, home, new = disk / "memory", disk / "home", str(disk / "new")
    own = Memory.from_pretrained(options.memory, device="cpu")
    own.forget(own.gallery.file_names[:1])  # something to consolidate
    own.save(memory)
    home.mkdir()
    picture = memory / "gallery" / own.gallery.file_names[0]
    queries = disk / "queries.jsonl"
    queries.write_text(f'{{"query": "a", "relevant": ["{picture.name}"]}}\n')
    mount("-o", "remount,ro", str(disk))
    before = digest(disk)
    models = ["--backbone", options.backbone, "--clip", options.clip, "--preset", "quick"]
    commands = (
        ["add", str(memory), str(picture), "--caption", "a new one"],
        ["forget", str(memory), picture.name],
        ["consolidate", str(memory)],
        ["memorize", str(memory / "gallery"), "--out", new, *models],
        ["evaluate", "--memory", str(memory), "--queries", str(queries), "--csv", f"{new}.csv"],
    )
    found = [fault_of([sys.executable, "-m", "gcr_core", *words], home) for words in commands]
    found.append(fault_of([sys.executable, "app.py", "--memory", str(memory)], home))
    if digest(disk) != before:
        found.append("what was there has changed")
    found.append(refused_import(disk, home, memory, picture))
    return list(filter(None, found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=Path, required=True, help="a memory of a few images")
    parser.add_argument("--backbone", default=Settings.backbone, help="what a training begins with")
    parser.add_argument("--clip", default=Settings.clip)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as disk:
        found = faults(Path(disk), options)
        subprocess.run(["umount", disk], check=True)
    print("\n".join(found) or "each was refused in one line, nothing was changed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
