"""Publishing: a memory goes to the Hugging Face hub, and from there into a folder here.

A repository is private and goes without the gallery's pictures unless the person says otherwise. A push is one commit:
whoever reads the repository finds the old memory or the new one, and an upload that broke off left it as it was; the
next one sends only what is missing. Knows folders and manifests, loads no model.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr_core.data.formats import media_type
from gcr_core.errors import GcrError, HubError, MemoryFormatError, first_line
from gcr_core.files.atomic import new_folder
from gcr_core.files.hub import DATA_FILES, FETCHED, REPOSITORY_ID, TEXT_FILES
from gcr_core.files.layout import CARD_FILE, MANIFEST_FILE, ORIGINALS, holds_adapter
from gcr_core.memory.card import model_card
from gcr_core.memory.manifest import check_target, manifest_text, read_manifest, repository_of, write_manifest

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi, ModelInfo

MAX_COMMIT_FILES = 25_000
"""The most files that the hub takes in one commit."""
FILES_AT_ONCE = 64
"""How many files are uploaded in one batch."""
NAME = re.compile(r"[\w-][\w.-]*")
"""A repository's name without its owner."""
GIT_FILE = ".gitattributes"
"""The file that the hub puts into every repository."""
METADATA, PICTURES = "gallery/metadata.jsonl", ("gallery/", f"{ORIGINALS}/")
TOKENS = "https://huggingface.co/settings/tokens"
"""Where a person gets a token."""


def push(
    folder: str | Path,
    repo_id: str,
    token: str | None = None,
    public: bool = False,
    pictures: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Uploads the memory in a folder to a repository of the hub, which is made where there is none.

    A `repo_id` without owner is the token's owner's; `token` is one that may write, by default the one saved on this
    machine. Without `pictures` the gallery goes as file names and captions. A repository that this memory was pushed to
    or pulled from before gets a new commit, unless the memory there was changed since; any other that holds something
    is taken. `on_progress(done, total)` counts bytes. Returns {"repository", "revision", "url", "private", "pictures",
    "images"}. Raises MemoryFormatError, HubError.
    """
    folder = Path(folder)
    manifest, written = read_manifest(folder), folder.stat().st_ino
    _check_base(folder, manifest)
    if not (NAME.fullmatch(repo_id) or REPOSITORY_ID.fullmatch(repo_id)):
        raise HubError(f"{repo_id!r} is no name on the hub: write owner/name, in letters, digits, '-', '_' and '.'")
    with _hub(repo_id, "push"):
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()  # on_progress tells
        api = HfApi(token=token, library_name="gcr-core")
        owner = api.whoami()["name"]
        name = repo_id if "/" in repo_id else f"{owner}/{repo_id}"
        additions = _additions(folder, name, manifest, pictures)
        own = manifest["hub"] if repository_of(manifest) == name else {}
        before = _repository(api, name, public, own)
        sent = next(each.upload_info.sha256.hex() for each in additions if each.path_in_repo == MANIFEST_FILE)
        _note(folder, name, before.sha, [*_noted(own), sent])
        revision = _commit(api, name, additions, before, on_progress)
        if public and before.private:
            api.update_repo_settings(name, private=False)
    _note(folder, name, revision, [sent])
    if folder.stat().st_ino != written:
        raise HubError("the memory was rewritten while it was pushed: push it again")
    return {
        "repository": name,
        "revision": revision,
        "url": address(name),
        "private": not public,
        "pictures": pictures,
        "images": manifest["images"],
    }


def pull(repo_id: str, out: str | Path, token: str | None = None) -> dict[str, Any]:
    """Downloads a memory of the hub into a folder, whole or not at all; a memory that was there gives way.

    Returns {"repository", "revision", "memory", "images"}. Raises MemoryFormatError for a repository that holds no
    memory and for a folder that holds something else; HubError.
    """
    out = Path(out)
    if not REPOSITORY_ID.fullmatch(repo_id):
        raise HubError(f"{repo_id!r} is no hub id: write owner/name")
    check_target(out)
    with _hub(repo_id, "pull"):
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download

        info = HfApi(token=token, library_name="gcr-core").model_info(repo_id)
        if MANIFEST_FILE not in _paths(info):
            raise MemoryFormatError(f"{repo_id} on the hub holds no memory, it has no {MANIFEST_FILE}: name another")
        wanted: dict[str, Any] = {"repo_id": repo_id, "revision": info.sha, "token": token}
        read_manifest(Path(hf_hub_download(filename=MANIFEST_FILE, **wanted)).parent)
        snapshot = Path(snapshot_download(allow_patterns=[*FETCHED, *(f"{folder}*" for folder in PICTURES)], **wanted))
    with new_folder(out) as building:
        shutil.copytree(snapshot, building, dirs_exist_ok=True)
        _note(building, repo_id, info.sha, [sha256((building / MANIFEST_FILE).read_bytes()).hexdigest()])
    return {"repository": repo_id, "revision": info.sha, "memory": str(out), "images": read_manifest(out)["images"]}


def name_on_the_hub(name: str) -> str:
    """What a memory of this name can be called there."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-").lower() or "memory"


def address(repository: str) -> str:
    """Where a repository is looked at."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}"


def _additions(folder: Path, name: str, manifest: dict[str, Any], pictures: bool) -> list["CommitOperationAdd"]:
    """What the repository will hold. Raises HubError for more files than the hub takes at once."""
    from huggingface_hub import CommitOperationAdd

    shared = {key: value for key, value in manifest.items() if key != "hub"}
    if not manifest["backbone"].get("revision"):
        shared["backbone"] = manifest["backbone"] | {"name": Path(str(manifest["backbone"].get("name"))).name}
    shared |= {} if pictures else {"pictures_left_out": True}
    files: dict[str, bytes | Path] = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and (any(fnmatchcase(path.name.lower(), kind) for kind in (*TEXT_FILES, *DATA_FILES)) or media_type(path))
    }
    if not pictures:
        files = {path: file for path, file in files.items() if not path.startswith(PICTURES) or path == METADATA}
    card = model_card(shared, name, adapter=holds_adapter(folder))
    files |= {MANIFEST_FILE: manifest_text(shared).encode(), CARD_FILE: card.encode()}
    if len(files) > MAX_COMMIT_FILES:
        raise HubError(
            f"the memory has {len(files):,} files, a push takes {MAX_COMMIT_FILES:,}: leave the pictures out"
        )
    return [CommitOperationAdd(path, file) for path, file in files.items()]


def _repository(api: "HfApi", name: str, public: bool, own: dict[str, Any]) -> "ModelInfo":
    """The repository as it stands before the push; a new one where there is none.

    Raises HubError for one that holds something else than what this memory was pushed as or pulled from (`own`, noted
    then), or that anybody could read where that is not meant.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(name)
    except RepositoryNotFoundError:
        api.create_repo(name, private=not public)
        return api.model_info(name)
    held = _paths(info) - {GIT_FILE, CARD_FILE}
    if held and not own:
        raise HubError(
            f"{name} is taken: it holds {len(held):,} files that this memory was neither pushed as nor pulled from; "
            "choose another name"
        )
    if MANIFEST_FILE in held and info.sha != own.get("revision") and (noted := _noted(own)):
        manifest = Path(api.hf_hub_download(name, MANIFEST_FILE, revision=info.sha)).read_bytes()
        if sha256(manifest).hexdigest() not in noted:
            raise HubError(
                f"{name} was changed since this memory was pushed there or pulled from there, and a push would undo "
                "that: choose another name, or delete the repository if it is to give way; `pull` gets what it holds"
            )
    if not info.private and not public:
        raise HubError(f"everybody can read {name}: make the push public if that is meant, or choose another name")
    return info


def _commit(
    api: "HfApi",
    name: str,
    additions: list["CommitOperationAdd"],
    before: "ModelInfo",
    on_progress: Callable[[int, int], None],
) -> str:
    """Uploads what the hub lacks, then makes it the repository's content in one commit; returns that commit's hash."""
    from huggingface_hub import CommitOperationDelete

    total, done = sum(addition.upload_info.size for addition in additions), 0
    for start in range(0, len(additions), FILES_AT_ONCE):
        on_progress(done, total)
        batch = additions[start : start + FILES_AT_ONCE]
        api.preupload_lfs_files(name, batch, free_memory=False)
        done += sum(addition.upload_info.size for addition in batch)
    on_progress(done, total)
    gone = _paths(before) - {addition.path_in_repo for addition in additions} - {GIT_FILE}
    deletions = [CommitOperationDelete(path) for path in sorted(gone)]
    return api.create_commit(
        name, [*additions, *deletions], commit_message="Push the memory", parent_commit=before.sha
    ).oid


def _check_base(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises HubError for an adapter of a backbone that only this machine has."""
    if holds_adapter(folder) and not manifest["backbone"].get("revision"):
        raise HubError(
            f"the memory is an adapter of the backbone in {manifest['backbone'].get('name')!r}, a folder that nobody "
            "else has: memorise the gallery with the backbone's hub id, and push that"
        )


def _note(folder: Path, name: str, revision: str | None, digests: list[str]) -> None:
    """Writes into the manifest of a memory here which repository is its own, and the SHA-256 of the `memory.json`
    there; of two while it is not known which of them is there. A folder that can only be read stays as it is."""
    own = {"repository": name, "revision": revision, "facts_sha256": digests}
    with suppress(OSError):
        write_manifest(folder, read_manifest(folder) | {"hub": own})


def _noted(own: dict[str, Any]) -> list[str]:
    """The SHA-256 that `_note` wrote, each once; none where there are no such."""
    noted = own.get("facts_sha256")
    return list(dict.fromkeys(map(str, noted))) if isinstance(noted, list) else []


def _paths(info: "ModelInfo") -> set[str]:
    return {sibling.rfilename for sibling in info.siblings or ()}


@contextmanager
def _hub(name: str, verb: str) -> Iterator[None]:
    """What the hub refuses, and what keeps it from being reached, as a HubError that says what to do."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except GcrError:
        raise
    except LocalTokenNotFoundError as error:
        raise HubError(f"no token of the hub is known here: make one at {TOKENS} and set HF_TOKEN to it") from error
    except HFValidationError as error:
        raise HubError(f"{name!r} is no hub id ({first_line(error)}): choose another name") from error
    except HfHubHTTPError as error:
        raise HubError(_refusal(error.response.status_code, name, verb, _said(error))) from error
    except OfflineModeIsEnabled as error:
        raise HubError(f"HF_HUB_OFFLINE is set, so {name} cannot be reached: unset it to {verb}") from error
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise HubError(
            f"the {verb} of {name} broke off ({first_line(error)}): see to the connection and {verb} again; nothing "
            "is lost, and what was sent is not sent again"
        ) from error


def _refusal(status: int, name: str, verb: str, said: str) -> str:
    match status:
        case 401 if verb == "push":
            return f"the hub knows no such token ({said}): make one that may write at {TOKENS}"
        case 401 | 404:
            return f"{name} is not on the hub, or private ({said}): check the name, and set HF_TOKEN to who may read it"
        case 403:
            return f"the token may not {verb} {name} ({said}): choose a name of your own and a token that may write"
        case 409:
            return f"{name} is taken ({said}): choose another name"
        case 412:
            return f"{name} was changed by another while this was pushed ({said}): push again"
    return f"the hub answered {status} to the {verb} of {name} ({said}): try again later; nothing is lost"


def _said(error: Any) -> str:
    return (error.server_message or first_line(error)).splitlines()[0]
