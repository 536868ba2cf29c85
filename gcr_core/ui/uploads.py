"""Uploads: files that the browser has sent, laid out under the names that they had there.

Gradio keeps each upload in a folder named after its content and removes it after an hour. A file is taken only from
there, whatever path a request names; a stranger's are in a folder of their own. Opens no picture.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from gcr_core.data.sources import check_files
from gcr_core.errors import InputError
from gcr_core.files.atomic import Temporary
from gcr_core.ui.gradio_import import gr

OWNER: ContextVar[str] = ContextVar("OWNER", default="")
"""The folder of whoever sent the request that is handled, below that of all uploads."""


PLACE = "gcr-"
"""What the folders of uploads to apps like this begin with; other apps of Gradio's may have theirs beside them."""
PROCESS = os.getpid()
"""The process that serves the page, also in forks of it."""


def root() -> Path:
    """Where all uploads to this server are."""
    return Path(gr.utils.get_upload_folder(), f"{PLACE}{PROCESS}")


def folder() -> Path:
    """Where the uploads are of whoever sent the request that is handled."""
    return root() / OWNER.get()


@contextmanager
def laid_out(files: Any, max_pictures: int = sys.maxsize) -> Iterator[list[Path]]:
    """What was dropped, for as long as the block lasts: files and folders side by side.

    `files`: [{"path": where the upload is, "name": its path in the drop}]. Raises InputError for what is none,
    GalleryError for more than `max_pictures` loose ones, copies counted once.
    """
    files = files if isinstance(files, list) else [files]
    check_files([(upload, partial(_folder, upload)) for upload in map(_path, files)], max_pictures)
    with Temporary("gcr-drop-") as place:
        root = Path(place)
        for upload, name in map(_checked, files):
            target = _place(root, name, upload)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(upload, target)
            except OSError:
                shutil.copyfile(upload, target)
        yield sorted(root.iterdir())


def uploaded(file: Any) -> Path:
    """The path of one upload. Raises InputError for a path that is none."""
    return _checked(file)[0]


def _checked(file: Any) -> tuple[Path, str]:
    path = _path(file)
    upload = Path(path).resolve()
    if not upload.is_relative_to(Path(gr.utils.get_upload_folder()).resolve()) or not upload.is_file():
        raise InputError(f"{Path(path).name!r} is no upload, or one from over an hour ago: upload it again")
    name = file.get("name") or file.get("orig_name") or upload.name
    return upload, name if isinstance(name, str) else upload.name


def _path(file: Any) -> str:
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str):
        raise InputError("a file came without its path: upload it again")
    return path


def _folder(upload: str) -> str:
    """The same for uploads of the same bytes."""
    return upload.rpartition("/")[0]


def _place(root: Path, name: str, upload: Path) -> Path:
    """Where a file goes below `root`: under its own name where a file system takes that, with a number where one of
    that name stands there."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name or any(len(part.encode(errors="replace")) > 255 for part in parts) or not parts:
        parts = [upload.name]
    target = root.joinpath(*parts)
    numbered = (target.with_stem(f"{target.stem}-{number}") for number in count(2))
    return next(path for path in chain([target], numbered) if not path.exists())
