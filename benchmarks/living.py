"""What adding, forgetting and consolidating do to a memory, and how long they take.

    python benchmarks/living.py [GALLERY] [--images 300] [--preset balanced] [--identifiers atomic] [--json]

A memory of 90 % of the images is made, the other 10 % are added to it one by one, then trained in, then forgotten.
GALLERY: a folder of images with captions or a zip of one, by default the sample gallery, whose captions gcr-mini has
met before. Of an image with three captions or more the last is kept out of all that is trained here and asked for as
an unseen one. A hit: an image that has the caption comes first; for a picture, its own image. Worn pictures are
cropped, halved and compressed as in `quality.py`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from quality import worn

from gcr_core import Gallery, Memory
from gcr_core.memory.build import make_memory
from gcr_core.training.config import PRESETS, Recipe

SAMPLE = Path(__file__).parent.parent / "assets" / "emoji.zip"
ADDED = 0.1
UNSEEN_FROM = 3
BATCH = 64
BEAMS = (1, 10, 1000)


def recall(memory: Memory, images: list[int], gallery: Gallery, unseen: list[str | None]) -> dict[str, float | None]:
    """Shares of queries about images of the whole gallery whose first answer is right."""
    names = [gallery.file_names[image] for image in images]
    owners: dict[str, set[str]] = {}
    for name, texts, last in zip(gallery.file_names, gallery.captions, unseen, strict=True):
        for text in [*texts, last] if last else texts:
            owners.setdefault(text, set()).add(name)

    def share(queries: list[Any], right: list[set[str]], ask: Callable[..., Any]) -> float | None:
        hits = [
            found[0].file_name
            for start in range(0, len(queries), BATCH)
            for found in ask(queries[start : start + BATCH], top=1)
        ]
        return (
            round(float(np.mean([hit in these for hit, these in zip(hits, right, strict=True)])), 4) if hits else None
        )

    own = [{name} for name in names]
    captions = sorted({text for image in images for text in gallery.captions[image]})
    asked = [last for image in images if (last := unseen[image])]
    pictures: list[Image.Image] = [gallery.open(image) for image in images]
    return {
        "picture": share(pictures, own, memory.recall_images),
        "worn picture": share([worn(picture) for picture in pictures], own, memory.recall_images),
        "caption": share(captions, [owners[text] for text in captions], memory.recall),
        "unseen caption": share(asked, [owners[text] for text in asked], memory.recall),
    }


def returned(memory: Memory, gallery: Gallery, images: list[int]) -> int:
    """How many answers to the pictures and captions of these images, of any width and engine, are one of them."""
    gone = {gallery.file_names[image] for image in images}
    queries = [text for image in images for text in gallery.captions[image]]
    answers = [memory.search(query, 100, beams) for query in queries[:BATCH] for beams in BEAMS]
    answers += [memory.search_image(gallery.open(image), 100, beams) for image in images[:BATCH] for beams in BEAMS]
    return sum(
        hit["file_name"] in gone for answer in answers for engine in ("generative", "dense") for hit in answer[engine]
    )


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 3)


def measure(gallery: Gallery, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """All figures of one gallery."""
    unseen = [texts[-1] if len(texts) >= UNSEEN_FROM else None for texts in gallery.captions]
    kept = [texts[:-1] if last else texts for texts, last in zip(gallery.captions, unseen, strict=True)]
    gallery = Gallery(gallery.root, gallery.file_names, kept)
    new = list(range(len(gallery) - round(ADDED * len(gallery)), len(gallery)))
    old = list(range(new[0]))
    report = make_memory(gallery.without(new), recipe, folder, lambda progress: None)
    memory = Memory.from_pretrained(folder)
    result: dict[str, Any] = {"old": len(old), "new": len(new), "trained_s": report["seconds"]}
    result["before"] = {"old": recall(memory, old, gallery, unseen)}

    result["rehearse_s"] = timed(memory.rehearse)
    pictures = [(gallery.file_names[image], gallery.open(image)) for image in new]
    seconds = []
    for image, picture in zip(new, pictures, strict=True):
        started = time.perf_counter()
        memory.add([picture], [kept[image]])
        seconds.append(round(time.perf_counter() - started, 3))
    result |= {"add_s_p50": float(np.median(seconds)), "add_s_max": max(seconds)}
    result["save_s"] = timed(lambda: memory.save(folder))
    both = {"old": old, "new": new}
    result["added"] = {part: recall(memory, images, gallery, unseen) for part, images in both.items()}

    result["consolidate_s"] = timed(memory.consolidate)
    result["consolidated"] = {part: recall(memory, images, gallery, unseen) for part, images in both.items()}

    memory = Memory.from_pretrained(folder)
    result["forget_s"] = timed(lambda: memory.forget([gallery.file_names[image] for image in new]))
    memory.save(folder)
    result["forgotten"] = {"old": recall(memory, old, gallery, unseen)}
    result["returned"] = returned(memory, gallery, new) + returned(Memory.from_pretrained(folder), gallery, new)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--images", type=int, default=300, help="a random sample of so many")
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument("--identifiers", default="atomic")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        given, folder = arguments.gallery, Path(temporary)
        whole = Gallery.from_zip(given, folder / "gallery") if given.is_file() else Gallery.from_folder(given)
        chosen = np.random.default_rng(0).permutation(len(whole))[: arguments.images].tolist()
        gallery = Gallery(
            whole.root, [whole.file_names[image] for image in chosen], [whole.captions[image] for image in chosen]
        )
        recipe = Recipe(identifiers=arguments.identifiers, preset=arguments.preset)
        result = measure(gallery, recipe, folder / "memory")
    if arguments.json:
        print(json.dumps(result))
        return
    print(
        f"{result['old']} images memorised in {result['trained_s']:.0f} s ({arguments.preset}), {result['new']} added"
    )
    print(
        f"add: {result['add_s_p50']:.3f} s a picture (median), {result['add_s_max']:.3f} s at most, "
        f"{result['rehearse_s']:.1f} s once before, {result['save_s']:.1f} s to save; "
        f"consolidate: {result['consolidate_s']:.0f} s; forget: {result['forget_s']:.3f} s"
    )
    print(f"answers with a forgotten image: {result['returned']}\n")
    queries = list(result["before"]["old"])
    print(f"{'share right at rank 1':<28}" + "".join(f"{query:>16}" for query in queries))
    for moment in ("before", "added", "consolidated", "forgotten"):
        for part, shares in result[moment].items():
            figures = "".join(
                "               -" if shares[query] is None else f"{shares[query]:16.3f}" for query in queries
            )
            print(f"{f'{part} images, {moment}':<28}{figures}")


if __name__ == "__main__":
    main()
