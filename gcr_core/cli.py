"""Commands of `python -m gcr_core`: recall, memorize, add, forget, consolidate, describe, evaluate, info.

With `--json` a command prints one JSON object on stdout and nothing else there. Exit status 0, or 2 with one
line on stderr. Models are imported by the commands that need them, so `--help` and `info` answer at once.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr_core import tables
from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.data.karpathy import read_gallery
from gcr_core.data.pictures import IMPORT_SIDE, MODEL_SIDE
from gcr_core.data.stems import stem_captions
from gcr_core.errors import HubError, InputError, one_line
from gcr_core.files.atomic import changing
from gcr_core.files.hub import fetch
from gcr_core.memory.card import flat
from gcr_core.memory.manifest import changes, check_memory, check_target, read_manifest
from gcr_core.retrieval.query import DEFAULT_BEAMS, DEFAULT_TOP, SearchRequest
from gcr_core.runtime import USER_MISTAKE, Parser
from gcr_core.settings import Settings
from gcr_core.training.config import PRESET_WORDS, Recipe
from gcr_core.training.preflight import check_written

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; `arguments` default to the process's own. Returns the exit status. Raises KeyboardInterrupt."""
    try:
        options = _parser().parse_args(arguments)
        answer, table = options.command(options)
    except Exception as error:
        mistake = one_line(error)
        if mistake is None:
            raise
        return _said(mistake)
    return _print(json.dumps(answer) if options.json else table, options.changes) if _reports() else 0


def _print(text: str, is_done: bool) -> int:
    """Prints an answer; returns the exit status. A reader who has left is no mistake, and where a change `is_done`, one
    that cannot be told of is none either."""
    try:
        print(text)
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # What is left to print is dropped.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            told = f"the answer cannot be printed ({error.strerror or error})"
            status = _said(f"{told}, what was asked for is done" if is_done else f"{told}: send it where there is room")
            return 0 if is_done else status
    return 0


def _said(mistake: str) -> int:
    """Prints a mistake on one line, where it can be printed; returns the exit status for it."""
    which = "gcr_core" if _reports() else f"gcr_core, process {os.environ['RANK']}"
    with suppress(OSError):
        print(f"{which}: {' '.join(mistake.split())}", file=sys.stderr, flush=True)
    return USER_MISTAKE


def _reports() -> bool:
    """Whether this process is the first, or the only one, of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="gcr_core", description="Recall images from the parameters of a language model.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    settings = Settings.from_env()

    recall = commands.add_parser("recall", help="find images for a text query, or for a picture")
    recall.add_argument("query", nargs="?", type=_text, help="what the image shows, in words")
    recall.add_argument("--image", metavar="PATH", help="ask with a picture: has the memory seen it?")
    recall.add_argument("--top", type=int, default=DEFAULT_TOP, metavar="N", help="images shown (default %(default)s)")
    recall.add_argument("--album", default="", metavar="NAME", help="search in this album alone")
    recall.set_defaults(command=_recall)

    evaluate = commands.add_parser("evaluate", help="recall and latency of both engines on a query file")
    evaluate.add_argument("--queries", required=True, metavar="FILE", help="queries: JSON Lines, or a .csv")
    evaluate.add_argument("--csv", metavar="FILE", help="where what each query got is written as a table")
    evaluate.add_argument(
        "--split", metavar="NAME", help="FILE is a Karpathy split's JSON: ask the captions of this one"
    )
    evaluate.set_defaults(command=_evaluate)

    for command in (recall, evaluate):
        command.add_argument("--memory", default=settings.memory, metavar="DIR", help="folder or hub id")
        command.add_argument(
            "--beams", type=int, default=DEFAULT_BEAMS, metavar="N", help="beam width (default %(default)s)"
        )

    memorize = commands.add_parser("memorize", help="train a memory of your own pictures")
    memorize.add_argument(
        "gallery", metavar="GALLERY", help="a folder, zip or tar of images, or a Karpathy split's JSON"
    )
    memorize.add_argument("--images", metavar="DIR", help="where the images of a Karpathy split are")
    memorize.add_argument("--split", action="append", metavar="NAME", help="a split to memorise (default train)")
    memorize.add_argument(
        "--pictures-only", action="append", metavar="NAME", help="a split whose captions are kept for evaluate"
    )
    memorize.add_argument("--out", required=True, metavar="DIR", help="where the memory is written")
    memorize.add_argument("--backbone", default=settings.backbone, metavar="DIR_OR_ID", help="what learns")
    memorize.add_argument("--clip", default=settings.clip, metavar="DIR_OR_ID", help="the dense baseline's CLIP")
    memorize.add_argument("--identifiers", default="atomic", metavar="TYPE", help="default: atomic")
    presets = "; ".join(f"{name}: {words}" for name, words in PRESET_WORDS.items())
    memorize.add_argument("--preset", default="balanced", metavar="NAME", help=presets)
    memorize.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed, the same memory")
    memorize.add_argument(
        "--write-captions",
        type=int,
        metavar="N",
        help="let the backbone write up to N captions for each image without any",
    )
    memorize.set_defaults(command=_memorize)

    living = {}
    for name, run, words in (
        ("add", _add, "take pictures into a memory, recallable at once"),
        ("forget", _forget, "never recall images again"),
        ("consolidate", _consolidate, "train what was added and forgotten into the weights"),
        ("describe", _describe, "say what an image shows, from its identifier alone"),
    ):
        living[name] = commands.add_parser(name, help=words)
        living[name].add_argument("memory", metavar="MEMORY", help="the memory's folder")
        living[name].set_defaults(command=run)
    living["add"].add_argument("images", nargs="+", metavar="IMAGE", help="a picture file")
    living["add"].add_argument(
        "--caption", type=_text, metavar="TEXT", help="what they show; without it, the words in their names"
    )
    living["forget"].add_argument("file_names", nargs="+", metavar="FILE_NAME", help="an image of its gallery")
    living["describe"].add_argument("file_name", metavar="FILE_NAME", help="an image of its gallery")

    push = commands.add_parser("push", help="put a memory on the Hugging Face hub, private unless said otherwise")
    push.add_argument("memory", metavar="MEMORY", help="the memory's folder")
    push.add_argument("repository", metavar="REPO_ID", help="owner/name, or a name of your own")
    push.add_argument("--public", action="store_true", help="everybody can read it")
    push.add_argument("--with-pictures", action="store_true", help="the gallery's pictures go with it")
    push.set_defaults(command=_push)

    pull = commands.add_parser("pull", help="get a memory from the Hugging Face hub")
    pull.add_argument("repository", metavar="REPO_ID", help="owner/name")
    pull.add_argument("--out", required=True, metavar="DIR", help="where the memory is written")
    pull.set_defaults(command=_pull)

    info = commands.add_parser("info", help="the facts of a memory")
    info.add_argument("memory", nargs="?", default=settings.memory, metavar="MEMORY", help="folder or hub id")
    info.set_defaults(command=_info)

    changing_commands = (memorize, living["add"], living["forget"], living["consolidate"], push, pull)
    for command in (recall, memorize, evaluate, *living.values(), push, pull, info):
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.set_defaults(changes=command in changing_commands)
    return parser


def _text(argument: str) -> str:
    """An argument as UTF-8, where Python took its bytes for another encoding's."""
    return os.fsencode(argument).decode("utf-8", "replace")


def _recall(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if (options.query is None) == (options.image is None):
        raise InputError("recall takes a query or --image PATH, one of the two")
    query = options.query if options.image is None else open_image(options.image, MODEL_SIDE)
    request = SearchRequest(query, options.top, options.beams, album=options.album)
    memory = _load(options.memory)
    answer = memory.answer(request)
    return answer, tables.recall(answer, memory.gallery)


def _memorize(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    recipe = Recipe(options.backbone, options.clip, options.identifiers, options.preset, options.seed)
    out = Path(options.out)
    check_target(out)
    with tempfile.TemporaryDirectory() as imported:
        if options.write_captions is not None:
            check_written(options.write_captions, options.backbone)
        gallery = _gallery(options, Path(imported, "gallery"))
        _hush()
        if options.write_captions is not None:
            gallery = _written(gallery, options)
        from tqdm import tqdm

        from gcr_core.memory.build import make_memory
        from gcr_core.memory.resume import unfinished
        from gcr_core.training.progress import Progress

        bars = tqdm(unit="step", disable=None if _reports() else True, leave=False)
        with unfinished(out, gallery, recipe) as checkpoint, bars as bar:

            def on_progress(progress: Progress) -> None:
                bar.total = progress.looks or progress.steps
                bar.set_description(progress.stage, refresh=False)
                bar.update((progress.looked or progress.step) - bar.n)

            report = make_memory(gallery, recipe, out, on_progress, checkpoint)
    answer = {"memory": str(out), **{key: report[key] for key in ("images", "seconds", "memorized", "retrieved")}}
    if report["pseudo_queries"]:
        answer["pseudo_queries"] = report["pseudo_queries"]
    return answer, tables.memorize(answer, report, gallery)


def _written(gallery: Gallery, options: argparse.Namespace) -> Gallery:
    """The gallery with captions that the backbone wrote for the images that had none; no file is touched.

    Several processes share the batches of images out.
    """
    from tqdm import tqdm

    from gcr_core.models.backbone import Backbone
    from gcr_core.models.distributed import mapped
    from gcr_core.training.pseudo_queries import batches, write_captions

    backbone, count = Backbone.from_pretrained(options.backbone), options.write_captions

    def write(shares: list[Sequence[int]]) -> list[dict[int, list[str]]]:
        bar = tqdm(shares, desc="writing captions", unit="batch", disable=None if _reports() else True, leave=False)
        return [some for images in bar for some in write_captions(backbone, gallery, images, count, options.seed)]

    written = mapped(write, batches(backbone, gallery.bare, count))
    return gallery.with_pseudo_queries({image: texts for some in written for image, texts in some.items()})


def _gallery(options: argparse.Namespace, imported: Path) -> Gallery:
    """What `memorize` was given. Raises InputError for a Karpathy split without images, or what else has no splits."""
    given, of_splits = Path(options.gallery), (options.images, options.split, options.pictures_only)
    if given.suffix == ".json":
        if options.images is None:
            raise InputError(f"{given.name} is a Karpathy split, and says not where its images are: add --images DIR")
        splits = options.split or ([] if options.pictures_only else ["train"])
        return read_gallery(given, options.images, splits, options.pictures_only or ())
    if any(of_splits):
        raise InputError(
            f"--images, --split and --pictures-only are for a Karpathy split, {given.name!r} is no .json file"
        )
    return Gallery.read(given, imported)


def _add(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    pictures = [(Path(path).name, open_image(path, IMPORT_SIDE)) for path in options.images]
    captions = [stem_captions(name) if options.caption is None else [options.caption] for name, _ in pictures]
    with _changed(options.memory) as (folder, memory):
        there = set(memory.gallery.file_names)
        names = memory.add(pictures, captions)
    answer = {"memory": str(folder), "added": names, "images": len(memory.gallery)}
    lines = [f"{folder}: {len(memory.gallery):,} images"]
    for (given, _), name, texts in zip(pictures, names, captions, strict=True):
        if name in there:
            lines.append(f"{given}: is there already as {name}; captions that are new to it are learnt by consolidate")
            continue
        there.add(name)
        words = (
            f'by its picture and as "{texts[0]}"' if texts else "by its picture; give a --caption to find it by words"
        )
        lines.append(f"{given}: recalled as {name}, {words}")
    return answer, "\n".join(lines)


def _forget(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    with _changed(options.memory) as (folder, memory):
        memory.forget(options.file_names)
    answer = {"memory": str(folder), "forgotten": options.file_names, "images": len(memory.gallery)}
    return (
        answer,
        f"{folder}: {len(memory.gallery):,} images left; never recalled again: {', '.join(options.file_names)}",
    )


def _consolidate(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from tqdm import tqdm

    there = Path(options.memory).absolute()
    if there.is_dir() and not any((nothing := changes(read_manifest(there))).values()):
        said = f"{there}: nothing to consolidate: nothing was added, forgotten or captioned since it was trained"
        return {"memory": str(there), **nothing}, said
    with (
        _changed(options.memory) as (folder, memory),
        tqdm(unit="step", disable=None, leave=False) as bar,
    ):

        def on_step(step: Any) -> None:
            bar.total = step.steps
            bar.update(step.step - bar.n)

        changed = memory.changes
        memory.consolidate(on_step)
    return {"memory": str(folder), **changed}, (
        f"{folder}: {changed['added']:,} added and {changed['forgotten']:,} forgotten images and "
        f"{changed['captions']:,} changed captions of others trained into the weights"
    )


def _describe(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    memory = _load(options.memory)
    (text,) = memory.describe([options.file_name])
    return {"file_name": options.file_name, "description": text}, text


def _evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from gcr_core.data.queries import Query, QueryFile, karpathy_queries
    from gcr_core.evaluation.answers import csv_file
    from gcr_core.evaluation.evaluate import among, evaluate

    _hush()
    memory = _load(options.memory)
    queries: Collection[Query]
    if options.split is not None:
        queries = karpathy_queries(options.queries, options.split, memory.gallery)
        memory = among(memory, {name for query in queries for name in query.relevant})
    else:
        queries = QueryFile(options.queries, memory.gallery)
    with csv_file(options.csv) as note:
        answer = evaluate(memory, queries, options.beams, note)
    return answer, tables.evaluate(answer)


def _push(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from tqdm import tqdm

    from gcr_core.memory.publish import push

    with tqdm(unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def on_progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        answer = push(
            options.memory,
            options.repository,
            public=options.public,
            pictures=options.with_pictures,
            on_progress=on_progress,
        )
    seen = "private" if answer["private"] else "public"
    gallery = "with their pictures" if answer["pictures"] else "without their pictures"
    return answer, f"{answer['url']}: {answer['images']:,} images, {seen}, {gallery}"


def _pull(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from gcr_core.memory.publish import pull

    answer = pull(options.repository, options.out)
    return answer, f"{answer['memory']}: {answer['images']:,} images from {answer['repository']}"


def _info(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    facts = read_manifest(fetch(options.memory, instead="checkpoints/emoji"))
    return facts, "\n".join(f"{name:<27} {value}" for name, value in flat(facts))


def _load(path_or_id: str | Path) -> "Memory":
    folder = fetch(path_or_id, instead="checkpoints/emoji")
    check_memory(folder)  # Before torch is imported: what is no memory is told at once.
    _hush()
    from gcr_core.memory.memory import Memory

    return Memory.load(folder)


@contextmanager
def _changed(path: str) -> Iterator[tuple[Path, "Memory"]]:
    """A memory in a folder here, to be changed; written again when the block ends well. Raises HubError for one of the
    hub."""
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise HubError(f"{path!r} is no folder here: changes are written to the memory, so name one that is")
    with changing(folder):
        memory = _load(folder)
        yield folder, memory
        memory.save(folder)


def _hush() -> None:
    """Keeps progress bars and remarks of libraries off stderr."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch reads it once
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
