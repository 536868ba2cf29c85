"""On ZeroGPU: the whole app where a GPU is only lent, to forks, on a quota. `spaces` is the stand-in in tests/zero."""

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gradio import Error
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from gcr_core.data.gallery import Gallery
from gcr_core.files.locks import try_lock
from gcr_core.memory.memory import Memory
from gcr_core.serving.job import FAILED, Job
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.training.config import Recipe
from gcr_core.ui import zerogpu
from gcr_core.ui.registry import SHIPPED
from tests import tiny
from tests.patience import until
from tests.serving import ROOT, serve

PATIENCE_SECONDS = 300
OVER = ("stopped", "interrupted", "failed", "done")


class Space:
    """An app with a lent GPU, and one visitor."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(8)
        headers = {"X-GCR-Owner": secrets.token_urlsafe(32), "X-IP-Token": self.token}
        self.client = Client(address, headers=headers, verbose=False)
        self.page = httpx.Client(base_url=address, headers=headers | {"Origin": address.rstrip("/")}, timeout=60)

    def allow(self, seconds: float) -> None:
        """Lends so many seconds from now on."""
        (self.folder / "quota").write_text(str(sum(loan["seconds"] for loan in self.loans()) + seconds))

    def loans(self) -> list[dict[str, Any]]:
        log = self.folder / "lent.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def memorize(self, gallery: Gallery) -> str:
        files = [handle_file(path) for path in sorted(gallery.root.iterdir()) if path.is_file()]
        return self.client.predict(files, preset="quick", api_name="/memorize")["id"]

    def job(self, id: str, action: str = "status") -> dict[str, Any]:
        return self.client.predict(id, action, api_name="/job")

    def wait(self, id: str, *states: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (status := self.job(id))["state"] not in states:
            assert time.monotonic() < deadline and status["state"] not in OVER, status
            time.sleep(0.1)
        return status


@pytest.fixture(scope="module")
def space(tiny_memory_dir, tiny_clip_dir, tmp_path_factory) -> Iterator[Space]:
    folder = tmp_path_factory.mktemp("zero")
    (folder / "quota").write_text("10000")
    variables = {
        "PYTHONPATH": str(ROOT / "tests" / "zero"),
        "SPACES_ZERO_GPU": "true",
        "ZERO_FOLDER": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    models = {"backbone": tiny.save_llava(folder / "llava"), "clip": tiny_clip_dir}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with serve(tiny_memory_dir, folder / "app.log", visitors=1, **models) as address:
            space = Space(address, folder)
            yield space
            space.client.close()


@pytest.fixture(autouse=True)
def plenty(request: pytest.FixtureRequest) -> None:
    if "space" in request.fixturenames:
        request.getfixturevalue("space").allow(10_000)


def test_a_query_is_answered_by_a_fork_on_the_visitors_quota_as_the_memory_answers(space, tiny_memory):
    answer = space.client.predict("a red circle", 3, 5, api_name="/search")
    here = tiny_memory.search("a red circle", 3, 5)
    assert [hit["file_name"] for hit in answer["generative"]] == [hit["file_name"] for hit in here["generative"]]
    loan = space.loans()[-1]
    assert loan["token"] == space.token and loan["pid"] != loan["parent"]
    assert zerogpu.START_SECONDS <= loan["seconds"] < zerogpu.START_SECONDS + 5


def test_a_users_mistake_keeps_its_words_on_the_way_out_of_the_fork(space):
    with pytest.raises(AppError, match="characters that this memory's tokenizer cannot read"):
        space.client.predict("ბედნიერი ძაღლი", 3, 5, api_name="/search")


def test_a_mistake_that_needs_no_model_is_told_without_a_loan(space):
    before = space.loans()
    with pytest.raises(AppError, match="the limits are 1 and 100"):
        space.client.predict("a red circle", 1000, 5, api_name="/search")
    assert space.loans() == before


def test_a_gpu_that_is_refused_is_said_with_the_reason(space):
    space.allow(3)
    with pytest.raises(AppError, match=r"no GPU was lent.* quota \(15s requested vs. 3s left\). Try again in 3:20:10"):
        space.client.predict("a red circle", 3, 5, api_name="/search")


def test_queries_of_ones_own_are_tested_on_the_visitors_quota_like_a_search(space):
    def tested(text: str) -> str:
        wanted = {"do": "begin", "memories": [SHIPPED], "source": "pasted", "text": text}
        reply = space.page.post("/evaluation", json=wanted)
        assert reply.status_code == 200, reply.text
        until(lambda: "results" in space.page.get("/evaluation").json())
        return space.page.get("/evaluation").json()["results"]

    space.client.predict(api_name="/memories")  # as a page does that is open
    before = len(space.loans())
    assert "2 queries of yours" in tested("a red circle | red-circle.png\na gold bar | gold-bar.png")
    loans = space.loans()[before:]
    assert len(loans) == 3 and {loan["token"] for loan in loans} == {space.token}, "the first wakes the memory"
    space.allow(3)
    refused = tested("a red circle | red-circle.png")
    assert "It broke off after 0 of 1 queries: no GPU was lent" in refused and "Try again in 3:20:10" in refused


def test_a_gallery_is_memorised_in_slices(space, tiny_gallery):
    id = space.memorize(tiny_gallery)
    status = space.wait(id, "done")
    assert status["report"]["memorized"] > 0.5
    slices = [loan for loan in space.loans() if loan["task"] == "train_slice"]
    assert len(slices) >= 3
    assert {loan["token"] for loan in slices} == {space.token}
    assert {loan["pid"] for loan in slices}.isdisjoint({loan["parent"] for loan in slices})
    assert all(loan["seconds"] <= 60 for loan in slices)
    answer = space.client.predict("a red circle", 3, 5, id, api_name="/search")
    assert "red-circle.png" in [hit["file_name"] for hit in answer["generative"]]


def test_a_training_whose_quota_is_used_up_waits_for_resume_and_goes_on(space, tiny_gallery):
    # Forks live on with all that was open: no lock of an earlier job may be kept by them, nor of the interrupted one.
    id = space.memorize(tiny_gallery)
    space.allow(130)  # a minute to measure, if that has not been lent yet, and one or two slices
    status = space.wait(id, "interrupted")
    assert "no GPU was lent (You have exceeded your ZeroGPU quota" in status["message"]
    assert status["message"].endswith("Resume goes on once one is")
    space.allow(10_000)
    space.job(id, "resume")
    assert space.job(id)["step"] >= status["step"] > 0
    assert space.wait(id, "done")["state"] == "done"


@pytest.fixture
def job(tmp_path, tiny_gallery, tiny_clip_dir) -> Job:
    """A job that nobody has begun."""
    shelf = Workspace.of(tmp_path / "home", None)
    gallery, folder = shelf.new_gallery()
    tiny_gallery.save(folder)
    job = Job(shelf.root / "jobs" / new_id())
    job.folder.mkdir(parents=True)
    recipe = Recipe(str(tiny.save_llava(tmp_path / "llava")), str(tiny_clip_dir), preset="quick")
    job.create({"name": "Shapes", "gallery": gallery, "recipe": vars(recipe), "submitted": 0.0})
    return job


def test_a_training_that_will_not_fit_what_is_lent_is_refused_before_it_begins(job):
    assert zerogpu.train_slice(job.folder, 45, max_seconds=0.01)
    status = job.recorded()
    assert status["state"] == FAILED and status["step"] == 0
    assert "of a GPU" in status["message"] and "duplicate the Space" in status["message"]


def test_a_slice_that_is_cut_off_before_its_first_step_ends_the_job_instead_of_using_up_the_quota(job, monkeypatch):
    def cut_off(*arguments: object) -> bool:
        raise Error("GPU task aborted")

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lambda duration: lambda task: cut_off))
    own, machine = try_lock(job.lock), try_lock(job.folder / "machine")
    zerogpu.Slices(zerogpu.Requests(), 60)(job, own, machine)
    os.close(own)
    os.close(machine)
    until(lambda: not job.is_alive())
    assert job.recorded()["state"] == FAILED
    assert "longer than the 60 s for which a GPU is lent" in job.recorded()["message"]


@pytest.mark.slow
def test_a_training_in_slices_makes_the_memory_that_one_in_one_go_makes(job, tiny_gallery, tmp_path):
    from gcr_core.memory.build import make_memory

    recipe = Recipe(**job.config["recipe"])
    make_memory(tiny_gallery, recipe, tmp_path / "whole", lambda progress: None)
    seconds, slices = chain([0, 0, 0, 0.5, 0.5], repeat(300)), 1
    while not zerogpu.train_slice(job.folder, next(seconds), max_seconds=10_000):
        slices += 1
    assert slices > 3
    whole, sliced = (Memory.from_pretrained(folder) for folder in (tmp_path / "whole", job.workspace.memory(job.id)))
    ones, others = whole.search("a gold bar", 12, 12), sliced.search("a gold bar", 12, 12)
    for one, other in zip(ones["generative"], others["generative"], strict=True):
        assert one["file_name"] == other["file_name"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_elsewhere_nothing_is_lent(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert not zerogpu.is_here()
    assert type(zerogpu.host(lambda say: None, "memory")) is zerogpu.ModelProcess
