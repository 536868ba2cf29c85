"""A captioned gallery, memorised, then asked for with captions that were kept out.

    python benchmarks/captioned.py [GALLERY] [--images 100] [--preset balanced] [--json]

GALLERY: a folder of images with captions or a zip of one, by default the sample gallery, which gcr-mini and
gcr-mini-clip have met with all its captions: take another one to see what a query that no training saw finds. Each
image's last caption is the query, where it has two or more; the memory is made with the others, the dense baseline
fine-tuned on the same. Prints the seconds from the gallery to the saved memory, the report of the making, and both
engines' figures on the queries.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from gcr_core import Gallery, Memory
from gcr_core.data.queries import Query
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.memory.build import make_memory
from gcr_core.settings import Settings
from gcr_core.training.config import Recipe
from gcr_core.training.estimate import estimate
from gcr_core.training.progress import Progress

SAMPLE = Path(__file__).parent.parent / "assets" / "emoji.zip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--images", type=int, default=100, help="the first so many images")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--backbone", default=Settings.backbone)
    parser.add_argument("--clip", default=Settings.clip)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def show(progress: Progress) -> None:
        if not arguments.json and progress.step % 25 == 0:
            known = "" if progress.memorized is None else f", {progress.memorized:.0%} known"
            print(f"{progress.stage}: step {progress.step} of {progress.steps}{known}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        given, folder = arguments.gallery, Path(temporary)
        whole = Gallery.from_zip(given, folder / "gallery") if given.is_file() else Gallery.from_folder(given)
        names, captions = whole.file_names[: arguments.images], whole.captions[: arguments.images]
        queries = [
            Query(texts[-1], None, frozenset([name])) for name, texts in zip(names, captions, strict=True) if texts[1:]
        ]
        gallery = Gallery(whole.root, names, [texts[:-1] if texts[1:] else texts for texts in captions])
        recipe = Recipe(arguments.backbone, arguments.clip, preset=arguments.preset, seed=arguments.seed)
        expected = estimate(gallery, recipe)[arguments.preset]
        began = time.monotonic()
        report = make_memory(gallery, recipe, folder / "memory", show)
        seconds = time.monotonic() - began
        memory = Memory.from_pretrained(folder / "memory")
        figures = evaluate(memory, queries)
        said = memory.describe(names[:5])
    result: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "estimate": round(expected, 1),
        "report": report,
        "unseen captions": figures,
        "described": dict(zip(names, said, strict=False)),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"\n{len(gallery)} images, {report['captions']} captions, preset {arguments.preset}")
    print(f"  made in {seconds:.0f} s, estimated before {expected:.0f} s")
    print(f"{'':32}{'generative':>12}{'dense':>12}")
    for name in ("memorized", "trained_captions"):
        print(f"  {name:<30}{report[name]:12.3f}{report['dense'][name]:12.3f}")
    for name in ("recall@1", "recall@5", "recall@10"):
        print(f"  unseen caption {name:<15}{figures['generative'][name]:12.3f}{figures['dense'][name]:12.3f}")
    for name, text in result["described"].items():
        print(f"  {name}: {text}")


if __name__ == "__main__":
    main()
