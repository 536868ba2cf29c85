"""Kills whoever changes what an owner keeps, at random moments: all of it must load, and nothing be left behind.

    python scripts/kill_writers.py --memory FOLDER [--kills 1000] [--seed 0] [--backbone FOLDER --clip FOLDER]

Two kinds of processes take turns, each until it is killed. One renames, adds, forgets, brings back, captions, moves,
saves, exports, opens, deletes and consolidates memories, and imports pictures, joins batches to them, takes some out
and puts them back. The other is a server that imports, queues, stops, resumes and removes trainings; its trainers
outlive it, and it or its trainer is killed first. Then what a server sweeps at its start is swept, each gallery and
memory loaded, with its pictures, and asked; in the end each training is resumed until its memory is there. What does
not load, or is left behind, is a fault and ends the script with status 1. Linux only.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm
from transformers.utils import logging

from gcr_core.data import staging
from gcr_core.data.gallery import Gallery
from gcr_core.data.pictures import FINGERPRINTS, THUMBNAIL_SIDE, THUMBNAILS
from gcr_core.files import atomic
from gcr_core.files.locks import locked
from gcr_core.memory import archive
from gcr_core.memory.memory import Memory
from gcr_core.serving import worker
from gcr_core.serving.importing import REPORT_FILE
from gcr_core.serving.job import DONE, QUEUED, RESUMABLE, UNFINISHED, Job
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.model_host import MemoryHost, TaskHost
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.training.config import Recipe

SERVERS = 0.35
"""The share of processes that are servers."""
LONGEST_SECONDS = {"write": 1.5, "serve": 3.0}
"""The longest that a process of each kind lives."""
LEAST_IMAGES, MOST_MEMORIES, MOST_JOBS = 4, 4, 3
IMAGE_SIDE = 48
BATCH, BATCH_SIDE = 12, THUMBNAIL_SIDE + 44
"""How many new pictures a batch has, and the pixels of their sides, which ask for thumbnails."""
HIDDEN = (REPORT_FILE, staging.TAKEN_OUT, THUMBNAILS, FINGERPRINTS)
"""What belongs to a gallery though its name begins with a dot."""


def write(shelf: Workspace, draws: random.Random, done: Path) -> None:
    """Changes the memories and galleries of an owner for ever; writes down what it does."""
    host = MemoryHost(lambda word: None)
    while True:
        id = draws.choice(shelf.ids("memories"))
        verbs = ["rename", "add", "move", "caption", "save", "export", "import"]
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
        if verb == "import":
            done.write_text(stage(shelf, draws, done))
        else:
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
            host.add(folder, [("new.png", drawn(draws))], [["a new one"]])
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


def stage(shelf: Workspace, draws: random.Random, done: Path) -> str:
    """Imports a gallery, or changes one that waits to be memorised; what it is about to do is written down."""
    taken = {job.config["gallery"] for job in jobs_of(shelf)}
    drafts = [id for id in shelf.ids("galleries") if id not in taken]
    verb = draws.choice(["collect"] if not drafts else ["batch", "take out", "put back", "discard"])
    done.write_text(verb)
    pictures = shelf.memory(draws.choice(shelf.ids("memories"))) / "gallery"
    if verb == "collect":
        shelf.collect([pictures])
        return verb
    folder = shelf.gallery(draws.choice(drafts))
    names = Gallery.load(folder).file_names
    match verb:
        case "batch":
            new = [shelf.root.parent / f"new-{number}.png" for number in range(BATCH)]
            for path in new:
                drawn(draws, BATCH_SIDE).save(path)
            with shelf.batch(folder.name, [*new, pictures]) as batch:
                staging.merge(folder, batch, 100)
        case "take out":
            staging.take_out(folder, draws.sample(names, len(names) // 3))
        case "put back":
            staging.put_back(folder, 100)
        case "discard":
            shelf.delete(folder.name)
    return verb


def serve(shelf: Workspace, draws: random.Random, done: Path, recipe: Recipe) -> None:
    """Looks after an owner's trainings for ever: in turn they are begun, stopped, resumed and removed."""
    jobs = JobQueue(shelf.root.parent, trained_in_a_fork)
    while True:
        going = [row["id"] for row in jobs.list(shelf) if row["state"] in UNFINISHED]
        stopped = [row["id"] for row in jobs.list(shelf) if row["state"] in RESUMABLE]
        over = [row["id"] for row in jobs.list(shelf) if row["state"] == DONE]
        if over:
            done.write_text("remove")
            remove(shelf, jobs, over[0])
        elif len(going) + len(stopped) < MOST_JOBS:
            done.write_text("submit")
            pictures = shelf.memory(draws.choice(shelf.ids("memories"))) / "gallery"
            jobs.submit(shelf, shelf.collect([pictures])[0], recipe, "trained")
        elif stopped:
            done.write_text("resume")
            jobs.resume(shelf, draws.choice(stopped))
        elif draws.random() < 0.02:
            done.write_text("stop")
            jobs.stop(shelf, draws.choice(going))
        else:
            time.sleep(0.05)


def remove(shelf: Workspace, jobs: JobQueue, id: str) -> None:
    """As the page does: the memory stays, unless there are many."""
    gallery = jobs.status(shelf, id)["gallery"]
    jobs.remove(shelf, id)
    if gallery in shelf.ids("galleries"):
        shelf.delete(gallery)
    if len(shelf.ids("memories")) > MOST_MEMORIES:
        shelf.delete(id)


def trained_in_a_fork(job: Job, own: int, machine: int) -> None:
    """In the place of a process that would import its libraries anew; it inherits both locks."""
    if os.fork():
        return
    os.setsid()
    try:
        worker.main(job.folder)
    finally:
        os._exit(0)


def jobs_of(shelf: Workspace) -> list[Job]:
    return [Job(shelf.root / "jobs" / id) for id in shelf.ids("jobs")]


def drawn(draws: random.Random, side: int = IMAGE_SIDE) -> Image.Image:
    colour = (draws.randrange(256), draws.randrange(256), draws.randrange(256))
    return Image.new("RGB", (side, side), colour)


def faults_of(shelf: Workspace) -> Iterator[str]:
    """What is wrong on a shelf whose last writer was killed, after the next start of a server, which trains nothing."""
    home = shelf.root.parent
    with locked(home / "training.lock"):
        JobQueue(home).close()
    left = [path for path in home.rglob(".*") if path.name not in HIDDEN]
    yield from (f"{path} is left" for path in (*left, *Path(tempfile.gettempdir()).iterdir()))
    queued = [path.name[-12:] for path in (home / "queue").iterdir()]
    stuck = {job.id for job in jobs_of(shelf) if job.status()["state"] == QUEUED} - set(queued)
    yield from (f"job {id} waits, and is not queued" for id in stuck)
    for id in shelf.ids("memories"):
        yield from mistake(f"memory {id}", partial(asked, shelf.memory(id)))
    for id in shelf.ids("galleries"):
        yield from mistake(f"gallery {id}", partial(whole, shelf.gallery(id)))
    for job in jobs_of(shelf):
        yield from mistake(f"job {job.id}", partial(well, job))
    if len(shelf.memories()) != len(shelf.ids("memories")):
        yield "a memory is not listed"
    for id in {path.name for path in shelf.root.glob("exports/*")} - set(shelf.ids("memories")):
        yield f"the export of {id} is left"


def mistake(what: str, look: Callable[[], None]) -> Iterator[str]:
    try:
        look()
    except Exception as error:
        yield f"{what}: {error!r}"


def asked(folder: Path) -> None:
    memory = Memory.from_pretrained(folder, device="cpu")
    for image in range(len(memory.gallery)):
        memory.gallery.open(image)
    memory.search("a", top=1, beams=1)


def whole(folder: Path) -> None:
    """Raises where a gallery's pictures are not all there, or others are."""
    gallery, out = Gallery.load(folder), staging.taken_out(folder)
    for image in range(len(gallery)):
        gallery.open(image)
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    names = {*gallery.file_names, *out.file_names, "metadata.jsonl"}
    if there != names:
        raise ValueError(f"{there ^ names} are in the folder or in its list alone")
    if small := {path.name for path in (folder / THUMBNAILS).glob("*")} - names:
        raise ValueError(f"{small} are thumbnails of nothing")


def well(job: Job) -> None:
    """Raises where a job neither ended well nor can be resumed."""
    state = job.status()["state"]
    if state not in (DONE, *RESUMABLE, *UNFINISHED):
        raise ValueError(f"is {state}: {job.status()['message']}")
    if state == DONE and {"memory", "checkpoint"} & {path.name for path in job.folder.iterdir()}:
        raise ValueError("has ended and left what it was made of")


def kill_one(shelf: Workspace, pid: int, draws: random.Random) -> str:
    """Kills a process and its trainer, one a moment before the other; what the first of them was doing, "" for the
    process itself."""
    trainers = [job for job in jobs_of(shelf) if job.is_alive()]
    stage = f"train: {trainers[0].recorded()['stage']}" if trainers and draws.random() < 0.5 else ""
    if stage:
        end(trainers)
        time.sleep(draws.uniform(0, 0.5))
    os.kill(pid, signal.SIGKILL)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
        raise ChildProcessError("it ended by itself")
    if trainers and not stage:
        time.sleep(draws.uniform(0, 1))
    end(jobs_of(shelf))
    return stage


def end(jobs: list[Job]) -> None:
    """Kills the trainers of these jobs."""
    for job in jobs:
        while job.is_alive():
            if pid := job.pid():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            time.sleep(0.01)


def finish(shelf: Workspace) -> Iterator[str]:
    """Resumes each training until it has ended; what has not ended well."""
    jobs = JobQueue(shelf.root.parent, trained_in_a_fork)
    for row in jobs.list(shelf):
        if row["state"] in RESUMABLE:
            jobs.resume(shelf, row["id"])
    while any(row["state"] in UNFINISHED for row in jobs.list(shelf)):
        time.sleep(0.1)
    for row in jobs.list(shelf):
        if row["state"] != DONE or row["id"] not in shelf.ids("memories"):
            yield f"job {row['id']} is {row['state']} in the end: {row['message']}"
    jobs.close()


def kill(kills: int, seed: int, memory: Path, recipe: Recipe) -> tuple[Counter[str], list[str]]:
    """What the processes were doing when they were killed, and the faults, each where it was first."""
    torch.set_num_threads(1)  # a fork of a process with OpenMP's threads would wait for them for ever
    tqdm.set_lock(threading.RLock())  # its own lock is one for all forks: who is killed with it stops the next
    atomic.JUST_BEGUN_SECONDS = 0
    archive.check = lambda folder: None  # a process of its own, which changes nothing but the manifest
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    doing, first = Counter[str](), dict[str, str]()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        shelf, done = Workspace.of(home, None), home / "done"
        for number in range(2):
            shutil.copytree(memory, shelf.root / "made")
            shelf.keep(shelf.root / "made", new_id(), str(number))
        (home / "tmp").mkdir()
        tempfile.tempdir = str(home / "tmp")
        for number in range(kills):
            draws = random.Random(f"{seed} {number}")
            kind = "serve" if draws.random() < SERVERS else "write"
            done.write_text("begin")
            if not (pid := os.fork()):
                try:
                    serve(shelf, draws, done, recipe) if kind == "serve" else write(shelf, draws, done)
                except BaseException:
                    print(f"{number}, {done.read_text()}: {traceback.format_exc()}", file=sys.stderr, flush=True)
                os._exit(1)
            time.sleep(draws.uniform(0, LONGEST_SECONDS[kind]))
            try:
                what = kill_one(shelf, pid, draws) or done.read_text()
            except ChildProcessError as error:
                what = done.read_text()
                first[f"{number}"] = f"{number}, {what}: {error}"
            doing[what] += 1
            for fault in faults_of(shelf):
                first.setdefault(fault, f"{number}, {what}: {fault}")
        for fault in (*finish(shelf), *faults_of(shelf)):
            first.setdefault(fault, f"in the end: {fault}")
        tempfile.tempdir = None
    return doing, list(first.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=Path, required=True, help="a memory of a few images")
    parser.add_argument("--backbone", default=Settings.backbone, help="what trainings begin with")
    parser.add_argument("--clip", default=Settings.clip)
    options = parser.parse_args()
    began = time.monotonic()
    doing, faults = kill(
        options.kills, options.seed, options.memory, Recipe(options.backbone, options.clip, preset="quick")
    )
    print(f"{options.kills:,} kills in {time.monotonic() - began:.0f} s: {dict(doing)}")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
