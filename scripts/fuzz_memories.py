"""Opens mutated memories as strangers' are opened: each must open and answer, or be refused in one line.

    python scripts/fuzz_memories.py [--count 500] [--seed 0] [--memory FOLDER] [--keep FOLDER]

Each is opened, read and asked as on trial in a process of its own, which may take MEMORY_BYTES more than it begins
with; one that takes longer than SECONDS of the processor, ends that process or says anything but one line is a fault.
After every hundred a process that answers for a memory that nobody changed is asked. Faults are kept in a folder and
end the script with status 1. Linux only.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gcr_core.errors import GcrError
from gcr_core.memory import archive
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.faiss_file import check_index
from gcr_core.retrieval.query import SearchRequest
from gcr_core.serving.model_process import Deadlines, ModelProcess
from gcr_core.serving.remote_memory import memory_host
from gcr_core.settings import ROOT

SECONDS = 2.0
"""The most time of the processor that a memory may take."""
MEMORY_BYTES = 512 * 2**20
ASKED_EVERY = 100
ANSWER_SECONDS = 60.0
"""How long the memory that nobody changed may take to answer."""
IMAGES = 20
"""The images of the memory that is mutated unless another is named."""
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**63, 10**30, 1e308, float("nan"), True, None, "", "x", "../../x", "/etc/passwd", "x" * 10**5),
    *([], {}, [[]], {"x": 1}, [0] * 10**4, {"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": "b"}),
    *({"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10**6}, {"height": 8000, "width": 8000}),
    *("gpt2", "clip", "llava", "gcr_mini", "Sequence", {"AutoModel": "x.Y"}, {"Fixed": 10**9}),
)
"""What stands in a file's JSON when somebody means harm."""
NUMBERS = (b"\0", b"\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0\0\0\0\x80", b"\xff" * 8)


def mutate(memory: Path, draws: random.Random) -> str:
    """Changes one or two files of a memory; how, in words."""
    said = []
    for _ in range(draws.choice((1, 1, 2))):
        files = sorted(path for path in memory.rglob("*") if path.is_file())
        path = draws.choice([path for path in files if draws.random() < 0.1 or path.parent.name != "gallery"] or files)
        kinds: tuple[Callable[[bytes, random.Random], bytes | None], ...] = (_cut, _flip, _number, _gone)
        if path.suffix == ".json":
            kinds = (_value, _value, _value, _value, _cut, _gone)
        kind = draws.choice(kinds)
        data = kind(path.read_bytes(), draws)
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        said.append(f"{path.relative_to(memory)}{kind.__name__}")
    return " ".join(said)


def _value(data: bytes, draws: random.Random) -> bytes:
    """Another value somewhere, a value less, or a list that is longer."""
    try:
        value = json.loads(data)
    except ValueError:
        return data
    holder, key = _place(value, draws)
    if holder is None:
        return data
    match draws.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder[key], list):
            holder[key] = holder[key] * draws.choice((2, 50))
        case 2 if isinstance(holder[key], int):
            holder[key] = holder[key] * draws.choice((2, 7, 1000, 10**6))
        case _:
            holder[key] = draws.choice(VALUES)
    return json.dumps(value).encode()


def _place(value: Any, draws: random.Random) -> tuple[Any, Any]:
    """A list or an object in a JSON value, and one of its keys."""
    holder: Any = None
    key: Any = None
    while isinstance(value, list | dict) and value and (holder is None or draws.random() < 0.8):
        holder, key = value, draws.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value = value[key]
    return holder, key


def _cut(data: bytes, draws: random.Random) -> bytes:
    return data[: draws.randrange(len(data) + 1)]


def _flip(data: bytes, draws: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draws.choice((1, 1, 8))):
        if changed:
            changed[_where(changed, draws)] ^= 1 << draws.randrange(8)
    return bytes(changed)


def _number(data: bytes, draws: random.Random) -> bytes:
    at, number = _where(data, draws) if data else 0, draws.choice(NUMBERS)
    return data[:at] + number + data[at + len(number) :]


def _where(data: bytes | bytearray, draws: random.Random) -> int:
    """A place, most often in the header."""
    return draws.randrange(min(len(data), draws.choice((8, 64, 4096, len(data)))))


def _gone(data: bytes, draws: random.Random) -> None:
    return None


def tried(memory: Path) -> str:
    """How the trial of a memory ended: "opened", "refused", or what is wrong about that."""
    with tempfile.TemporaryFile() as said:
        began = resident()
        if not (pid := os.fork()):
            os.dup2(said.fileno(), 2)
            status = 3
            try:
                check_index(memory / "dense" / "index.faiss", flat_only=True)
                status = archive._open(memory)
            except GcrError as error:
                print(error, file=sys.stderr)
                status = archive.FAILED
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, ended, used = os.wait4(pid, 0)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    took, room = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 - began
    status = os.waitstatus_to_exitcode(ended)
    if took > SECONDS:
        return f"{took:.1f} s: {lines[-1:]}"
    if room > MEMORY_BYTES:
        return f"{room / 2**20:.0f} MiB: {lines[-1:]}"
    if status not in (0, archive.FAILED, archive.REFUSED) or (status and not lines):
        return f"ended with {status}: {lines[-1:]}"
    return "refused" if status else "opened"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fuzz(count: int, seed: int, memory: Path, keep: Path | None) -> tuple[Counter[str], list[str]]:
    """How many opened and were refused, and the faults."""
    torch.set_num_threads(1)  # a fork of a process with OpenMP's threads would wait for them for ever
    archive.ROOM = MEMORY_BYTES
    ends, faults = Counter[str](), list[str]()
    server = ModelProcess(memory_host, "memory", Deadlines(ANSWER_SECONDS))
    with tempfile.TemporaryDirectory() as place:
        for number in range(count):
            changed = Path(place) / str(number)
            shutil.copytree(memory, changed, copy_function=os.link)
            how = mutate(changed, random.Random(f"{seed} {number}"))
            end = tried(changed)
            ends[end if end in ("opened", "refused") else "fault"] += 1
            if end not in ("opened", "refused"):
                faults.append(f"{number} ({how}): {end}")
                if keep is not None:
                    shutil.copytree(changed, keep / str(number), dirs_exist_ok=True)
            shutil.rmtree(changed)
            if number % ASKED_EVERY == ASKED_EVERY - 1 or number == count - 1:
                answer = server.ask("answer", memory, SearchRequest("a", top=1, beams=1))
                ends["answers"] += len(answer["generative"]) == 1
    server.end()
    return ends, faults


def small_memory(folder: Path) -> Path:
    """The memory that ships, with IMAGES images."""
    memory = Memory.from_pretrained(ROOT / "checkpoints" / "emoji", device="cpu")
    memory.forget(memory.gallery.file_names[IMAGES:])
    memory.save(folder)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=Path, help="the memory to mutate (default: a part of the one that ships)")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="where faults are written")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        memory = options.memory or small_memory(Path(folder) / "memory")
        ends, faults = fuzz(options.count, options.seed, memory, options.keep)
    print(f"{options.count:,} in {time.monotonic() - began:.0f} s: {dict(ends)}")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
