"""Fixtures shared by all tests: a tiny memory with random weights, made on the spot once a session.

`tiny_memory_dir` is a saved memory of twelve drawn pictures; `tiny_memory` is the same, loaded. Both are for
reading: a test that changes a memory loads one of its own from `tiny_memory_dir`. `tiny_clip_dir` and
`tiny_gallery` are what it is made of.

Model libraries are imported by the fixtures that need them: the process that only hands tests out to others has none.
"""

import os

# The tests crowd the machine: models this small are slower on more threads, and one that waits leaves its core at once.
os.environ |= {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}
os.environ["STARTED_BY_TESTS"] = str(os.getpid())  # in the environment of all that a test starts

import gcr_core  # noqa: F401, I001 - before torch: it sets how OpenMP waits

import contextlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from PIL import Image, ImageDraw

from gcr_core.data.gallery import Gallery

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory

ROOT = Path(__file__).resolve().parent
COLOURS = ("red", "green", "blue", "gold")
SHAPES = ("circle", "square", "bar")
APPS = (
    *("app_address", "shared_address", "album_client", "bare_client", "space", "call", "shared", "strangers", "home"),
    "process",
)
"""Fixtures in app/ and browser/ that start an app, or the process of its models, which several tests ask."""
SEED = 0
END_SECONDS = 30
MAX_WORKERS = 6
"""More would wait in the end for the one that has the longest group of tests."""
WORKER_BYTES = 3 * 2**30
"""What a worker takes with its app, the processes of that app's models, and its browser."""
CONTAINER_BYTES = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much memory a container may use, or "max"."""
MAX_ID_CHARACTERS = 100
"""The longest value that is written out in the name of a parametrized test."""


for name in [name for name in os.environ if name.startswith("GCR_") or name == "SPACE_ID"]:
    del os.environ[name]  # what a developer has set reaches no test, nor an app that one starts


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as tests wait for pages and processes, where the memory has room for
    them: with two a core the trainings among them wait for each other's threads."""
    memory = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(CONTAINER_BYTES.read_text()))
    return max(1, min((os.cpu_count() or 1) + 1, memory // WORKER_BYTES, MAX_WORKERS))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what asks an app or its models as slow, what is in browser/ as browser, and puts the longest first.

    Tests that ask one app are a group, which one worker runs: it is started once. So are those of a file, but for
    those that are slow by themselves: each of these is on its own, as a file of them would keep one worker to the end.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        folder = item.path.relative_to(ROOT).parts[0]
        app = next((name for name in APPS if folder != "unit" and name in getattr(item, "fixturenames", ())), None)
        if folder == "browser":
            item.add_marker("browser")
        if app:
            item.add_marker("slow")
            group = f"{folder}/{app}"
        elif any(mark.name == "slow" for mark in item.own_markers):
            group = item.nodeid.split("[")[0]
        else:
            group = item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group.replace("@", "")))
        groups.setdefault(group, []).append(item)

    def slow(group: list[pytest.Item]) -> int:
        return sum(any(item.iter_markers(name)) for item in group for name in ("slow", "browser"))

    items[:] = [item for group in sorted(groups.values(), key=slow, reverse=True) for item in group]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """The argument's name for a value too long to read: pytest would write out hundreds of megabytes."""
    return argname if isinstance(val, str | bytes) and len(val) > MAX_ID_CHARACTERS else None


@pytest.fixture(autouse=True, scope="session")
def nothing_left_behind() -> Iterator[None]:
    """No process that a test has started is there when the last test has ended."""
    yield
    started = {*psutil.Process().children(recursive=True), *filter(_is_ours, psutil.process_iter())}
    _, left = psutil.wait_procs(started - set(filter(_ends_with_this, started)), END_SECONDS)
    commands = [" ".join(process.cmdline()) for process in left if process.is_running()]
    for process in left:
        process.kill()
    assert not commands, "tests have left these processes behind"


def _is_ours(process: psutil.Process) -> bool:
    """Also one that outlived the process that started it."""
    try:
        return process.environ().get("STARTED_BY_TESTS") == str(os.getpid()) and process.pid != os.getpid()
    except psutil.Error:
        return False


def _ends_with_this(process: psutil.Process) -> bool:
    """Whether it is the one that multiprocessing keeps, and ends with its process."""
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return True


def pytest_report_header() -> str:
    return f"random numbers: seed {SEED} before each test"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What is drawn at random is the same in every run, whichever tests ran before."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the user's folder."""
    monkeypatch.setenv("GCR_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def tiny_gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Twelve PNGs of 48 x 48 pixels, `red-circle.png` to `gold-bar.png`, two captions each."""
    folder = tmp_path_factory.mktemp("gallery")
    rows = []
    for colour in COLOURS:
        for shape in SHAPES:
            image = Image.new("RGB", (48, 48), "white")
            draw = ImageDraw.Draw(image)
            match shape:
                case "circle":
                    draw.ellipse((8, 8, 40, 40), colour)
                case "square":
                    draw.rectangle((10, 10, 38, 38), colour)
                case _:
                    draw.rectangle((4, 20, 44, 28), colour)
            image.save(folder / f"{colour}-{shape}.png")
            row = {
                "file_name": f"{colour}-{shape}.png",
                "text": [f"a {colour} {shape}", f"{shape} in {colour}"],
            }
            rows.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return Gallery.from_folder(folder)


@pytest.fixture(scope="session")
def tiny_clip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights: 32 px, 16 dimensions, texts of at most 16 tokens."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    from tests import tiny

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = tiny.sentencepiece_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    ends = [("<s>", tokenizer.bos_token_id), ("<end>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A <end>", special_tokens=ends)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = CLIPConfig(
        text_config=tower | text,
        vision_config=tower | {"image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    side = {"height": 32, "width": 32}
    CLIPModel(config).save_pretrained(folder)
    image_processor = CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False)
    CLIPProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_memory_dir(tmp_path_factory: pytest.TempPathFactory, tiny_gallery: Gallery, tiny_clip_dir: Path) -> Path:
    """The tiny memory's folder: a random LLaVA, atomic identifiers."""
    from gcr_core.memory.memory import Memory
    from gcr_core.models.backbone import Backbone
    from gcr_core.retrieval.dense import DenseIndex
    from gcr_core.retrieval.identifiers import Identifiers
    from tests import tiny

    folder = tmp_path_factory.mktemp("memory")
    backbone = Backbone.from_pretrained(tiny.save_llava(folder / "llava"), device="cpu")
    dense = DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")
    identifiers = Identifiers.build("atomic", tiny_gallery, backbone.tokenizer)
    facts = {"backbone": {"name": "tiny-llava", "revision": None}}
    Memory(backbone, identifiers, tiny_gallery, dense, facts).save(folder / "memory")
    return folder / "memory"


@pytest.fixture(scope="session")
def tiny_memory(tiny_memory_dir: Path) -> "Memory":
    """The tiny memory, loaded. For reading only."""
    from gcr_core.memory.memory import Memory

    return Memory.from_pretrained(tiny_memory_dir, device="cpu")
