"""Hub: where a model or memory is, a folder that is here or one fetched from the Hugging Face hub once and kept.

Knows file names, not what is in them; nothing but weights, tables, text and pictures is fetched.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcr_core.errors import HubError, first_line
from gcr_core.settings import ROOT

REPOSITORY_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
TEXT_FILES = ("*.json", "*.jsonl", "*.txt", "*.md", "*.jinja", "*.model")
DATA_FILES = (
    *("*.safetensors", "*.faiss", "*.png", "*.jpg", "*.jpeg", "*.webp", "*.gif", "*.bmp"),
    *("*.jpe", "*.jfif", "*.mpo", "*.heic", "*.heif", "*.hif", "*.avif"),
)
FETCHED = ["".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in kind) for kind in (*TEXT_FILES, *DATA_FILES)]
"""The patterns of these files for the hub, which tells capitals from small letters: cameras write IMG_0001.JPG."""
CHECKPOINTS = "checkpoints"
"""The folder of the models that the project ships; a relative name that begins with it is the project's anywhere."""

CONVERTER, CONVERSION = "SFconvertbot", "Adding `safetensors` variant of this model"
"""The hub's own bot, and the title of the pull requests by which it offers a model's weights as safetensors."""


def fetch(path_or_id: str | Path, instead: str, revision: str | None = None) -> Path:
    """The folder at a path, or of a hub id at a revision. Raises HubError, naming what to use `instead`.

    Of a model whose own weights are in pickles (openai/clip-vit-base-patch32), the one that the hub's bot converted.
    """
    if folder := _folder(path_or_id, instead):
        return folder
    from huggingface_hub import snapshot_download

    name = str(path_or_id)
    with _given(name, instead):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=FETCHED))
        if revision is None and not any(folder.glob("*.safetensors")) and (converted := _conversion(name)):
            folder = Path(snapshot_download(name, revision=converted, allow_patterns=FETCHED))
        return folder


def lacking(hub_id: str, revision: str) -> int:
    """How many bytes `fetch` would bring over the network; 0 where the hub cannot be asked, and so gives nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        files = snapshot_download(hub_id, revision=revision, allow_patterns=FETCHED, dry_run=True)
    except (HTTPError, OSError, RuntimeError, ValueError):
        return 0
    return sum(file.file_size or 0 for file in files if file.will_download)


def cache(hub_id: str) -> Path:
    """The folder that keeps what was fetched of a hub id."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=hub_id, repo_type="model"))


def released(hub_id: str, instead: str) -> list[str]:
    """The commit hashes of a hub id's own history, without those of pull requests. Raises HubError as `fetch`."""
    from huggingface_hub import HfApi

    with _given(hub_id, instead):
        return [made.commit_id for made in HfApi().list_repo_commits(hub_id)]


def here(path_or_id: str | Path, instead: str) -> Path | None:
    """As `fetch`, but never over the network: None for a hub id that was not fetched before."""
    if folder := _folder(path_or_id, instead):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path_or_id), local_files_only=True))
    except (OSError, ValueError):
        return None


def absolute(path_or_id: str) -> str:
    """A folder's path for processes that were begun elsewhere, too; any other name as it is."""
    return str(_here(path_or_id) or path_or_id)


def portable(path_or_id: str) -> str:
    """What other machines know a folder by that the project ships, "checkpoints/NAME"; any other name as it is."""
    folder = _here(path_or_id)
    shipped = folder and folder.resolve().parent == (ROOT / CHECKPOINTS).resolve()
    return f"{CHECKPOINTS}/{folder.resolve().name}" if folder and shipped else path_or_id


def commit(folder: Path) -> str | None:
    """The commit hash that a folder of the hub's cache is of; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def _conversion(name: str) -> str | None:
    """The revision of the bot's pull request for a hub id, the newest one; None where it made none."""
    from huggingface_hub import HfApi

    offered = HfApi().get_repo_discussions(
        name, author=CONVERTER, discussion_type="pull_request", discussion_status="open"
    )
    return next((f"refs/pr/{offer.num}" for offer in offered if offer.title == CONVERSION), None)


def _folder(path_or_id: str | Path, instead: str) -> Path | None:
    """The folder at a path, None for a hub id. Raises HubError for what is neither."""
    if folder := _here(path_or_id):
        return folder
    name = str(path_or_id)
    if not REPOSITORY_ID.fullmatch(name):
        raise HubError(f"{name!r} is no folder here and no hub id (owner/name): name one, such as {instead}")
    return None


def _here(path_or_id: str | Path) -> Path | None:
    """The absolute path of a folder that there is: below the working directory, else among what the project ships."""
    try:
        path = Path(path_or_id).expanduser()
        if path.parts[:1] == (CHECKPOINTS,) and not path.is_dir():
            path = ROOT / path
        return path.absolute() if str(path_or_id) and path.is_dir() else None
    except (OSError, RuntimeError):  # too long a name, or the home of nobody
        return None


@contextmanager
def _given(name: str, instead: str) -> Iterator[None]:
    """What keeps the hub from giving something, as a HubError."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise HubError(
            f"{name!r} is no folder here and the hub did not give it ({first_line(error)}): "
            f"check the name and the connection, or use {instead}"
        ) from error
