"""Kills whoever changes memories, at random moments: every memory on the disk must load, and nothing be left behind.

    python scripts/kill_writers.py [--kills 1000] [--seed 0] [--memory FOLDER]

One process after the other renames, adds, forgets, brings back, captions, moves, saves, exports, opens and consolidates
the memories of one owner until it is killed. Then what a server sweeps at its start is swept, and each memory loaded,
with its pictures, and asked. What does not load, or is left behind, is a fault and ends the script with status 1. Linux
only.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from gcr_core.files import atomic
from gcr_core.memory import archive
from gcr_core.memory.memory import Memory
from gcr_core.serving.model_host import MemoryHost, TaskHost
from gcr_core.serving.workspace import Workspace, new_id

LONGEST_SECONDS = 1.5
"""The longest that a writer lives."""
LEAST_IMAGES = 4
MOST_MEMORIES = 4


def write(shelf: Workspace, draws: random.Random, done: Path) -> None:
    """Changes the memories of an owner for ever; writes down what it does."""
    host = MemoryHost(lambda word: None)
    while True:
        id = draws.choice(shelf.ids("memories"))
        verbs = ["rename", "add", "move", "caption", "save", "export"]
        if len(host._memory(shelf.memory(id)).gallery) > LEAST_IMAGES:
            verbs += ["forget", "bring back"]
        if len(shelf.ids("memories")) < MOST_MEMORIES:
            verbs += ["open"]
        elif draws.random() < 0.1:
            verbs = ["delete"]
        if draws.random() < 0.1:
            verbs = ["consolidate"]
        verb = draws.choice(verbs)
        done.write_text(verb)
        change(shelf, host, id, verb, draws)


def change(shelf: Workspace, host: MemoryHost, id: str, verb: str, draws: random.Random) -> None:
    """One change of one memory."""
    folder = shelf.memory(id)
    memory = host._memory(folder)
    name = draws.choice(memory.gallery.file_names)
    match verb:
        case "rename":
            shelf.rename(id, f"name {draws.random()}")
        case "add":
            colour = (draws.randrange(256), draws.randrange(256), draws.randrange(256))
            host.add(folder, [("new.png", Image.new("RGB", (48, 48), colour))], [["a new one"]])
        case "move":
            host.move(folder, [name], draws.choice(("", "here", "there")))
        case "caption":
            host.recaption(folder, {name: ["another caption"]})
        case "save":
            memory.save(folder)
        case "export":
            shelf.export(id)
        case "open":
            shelf.open_memory(shelf.export(id))
        case "delete":
            shelf.delete(id)
        case "consolidate":
            TaskHost(lambda word: None).consolidate(folder)
        case "forget":
            host.forget(folder, [name])
        case "bring back":
            host.forget(folder, [name])
            host.restore(folder, [name])


def faults_of(shelf: Workspace) -> list[str]:
    """What is wrong on a shelf whose last writer was killed, after the sweep of the next start."""
    shelf.sweep()
    shelf.drop_undo()
    faults = [str(path) for path in shelf.root.rglob(".*")]
    for id in shelf.ids("memories"):
        try:
            memory = Memory.from_pretrained(shelf.memory(id), device="cpu")
            for image in range(len(memory.gallery)):
                memory.gallery.open(image)
            memory.search("a", top=1, beams=1)
        except Exception as error:
            faults.append(f"{id}: {error!r}")
    if len(shelf.memories()) != len(shelf.ids("memories")):
        faults.append("a memory is not listed")
    return faults


def kill(kills: int, seed: int, memory: Path) -> tuple[Counter[str], list[str]]:
    """What the writers were doing when they were killed, and the faults."""
    torch.set_num_threads(1)  # a fork of a process with OpenMP's threads would wait for them for ever
    tqdm.set_lock(threading.RLock())  # its own lock is one for all forks: who is killed with it stops the next
    atomic.JUST_BEGUN_SECONDS = 0
    archive.check = lambda folder: None  # a process of its own, which changes nothing but the manifest
    doing, faults = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as home:
        shelf, done = Workspace.of(Path(home), None), Path(home) / "done"
        for number in range(2):
            shutil.copytree(memory, shelf.root / "made")
            shelf.keep(shelf.root / "made", new_id(), str(number))
        for number in range(kills):
            draws = random.Random(f"{seed} {number}")
            done.write_text("begin")
            if not (pid := os.fork()):
                try:
                    write(shelf, draws, done)
                except BaseException as error:
                    print(f"{number}, {done.read_text()}: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            time.sleep(draws.uniform(0, LONGEST_SECONDS))
            os.kill(pid, signal.SIGKILL)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
                faults.append(f"{number}: {done.read_text()} ended by itself")
            doing[done.read_text()] += 1
            faults += [f"{number}, {done.read_text()}: {fault}" for fault in faults_of(shelf)]
    return doing, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=Path, required=True, help="a memory of a few images")
    options = parser.parse_args()
    began = time.monotonic()
    doing, faults = kill(options.kills, options.seed, options.memory)
    print(f"{options.kills:,} kills in {time.monotonic() - began:.0f} s: {dict(doing)}")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
