"""Settings: where things are and how much is allowed, in one dataclass, read from GCR_* variables. Opens no file."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from gcr_core.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
BUCKET = Path("/data")
"""The folder at which Spaces mount storage that lasts."""
HOME = user_data_path("gcr", appauthor=False)
"""The folder in which the system keeps what a user made."""
FORMER_HOME = Path.home() / ".cache" / "gcr"
"""The home of earlier versions, in a folder that cleaners empty: still used where it is the only one there is."""
WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Settings:
    """A field is set by GCR_ and its name in capitals; a model or memory is a folder or a hub id, several values stand
    between commas."""

    home: Path = HOME
    """Where galleries, jobs and memories live; unless set, on a Space's bucket where it has one."""
    memory: str = str(ROOT / "checkpoints" / "emoji")
    """The memory that commands and app open when none is named."""
    backbone: str = str(ROOT / "checkpoints" / "gcr-mini")
    """What memorising starts from."""
    clip: str = str(ROOT / "checkpoints" / "gcr-mini-clip")
    """The dense baseline's CLIP."""
    training: bool = True
    """Whether the page offers to memorise."""
    hosts: tuple[str, ...] = ()
    """Names by which the page may be asked for, beside this machine's own; where it is served on other addresses than
    this machine's own, none given is any."""
    origins: tuple[str, ...] = ()
    """Other sites, as https://example.org, whose scripts may ask the page and whose pages may show it in a frame."""
    visitors: bool = False
    """Whether those who use the page are strangers to each other; unless set, whether this is a Space (SPACE_ID)."""
    unused_days: int = 30
    """Days without a visit after which the workspace of a stranger (`visitors`) is removed; 0: never."""
    max_pictures: int = 10_000
    """Pictures of one gallery."""
    max_picture_side: int = 1_600
    """Pixels of the longer side of a picture that a memory keeps; up to 256 it keeps thumbnails only."""
    max_upload_bytes: int = 4 * 2**30
    """Bytes of one upload: of a gallery, or of a memory."""
    max_kept_bytes: int = 64 * 2**30
    """Bytes of all galleries, jobs and memories of one owner."""
    max_kept_bytes_in_all: int = 512 * 2**30
    """Bytes of all galleries, jobs and memories of all owners."""
    max_uploaded_bytes: int = 8 * 2**30
    """Bytes of one stranger's (`visitors`) uploads, which are kept for an hour."""
    max_uploaded_bytes_in_all: int = 32 * 2**30
    """Bytes of all strangers' uploads."""
    max_downloaded_bytes: int = 8 * 2**30
    """Bytes of the zips that are made for one stranger (`visitors`) and not yet sent."""
    max_downloaded_bytes_in_all: int = 32 * 2**30
    """Bytes of the zips that are made for all strangers and not yet sent."""
    max_fetched_bytes: int = 16 * 2**30
    """Bytes of one model of the hub that are kept, in all revisions that strangers' memories name."""
    max_pushes: int = 2
    """Pushes of one owner to the hub at a time."""
    max_pushes_in_all: int = 8
    """Pushes of all owners at a time."""
    max_imports: int = 2
    """Imports of one owner at a time."""
    max_imports_in_all: int = 4
    """Imports of all owners at a time."""
    max_strangers_memory: int = 1_536 * 2**20
    """Bytes of memory that the processes take together in which strangers' (`visitors`) pictures and memories are
    opened; whoever finds too little left waits."""
    max_requests: int = 32
    """Requests of one stranger that wait or are answered."""
    max_requests_in_all: int = 500
    """Requests of all visitors that wait for answers."""
    max_request_bytes: int = 8 * 2**20
    """Bytes of one request that uploads nothing."""
    max_steps: int = 100_000
    """Training steps of one job."""
    max_queued_jobs: int = 5
    """Jobs of one owner that wait or run."""
    max_queued_jobs_in_all: int = 50
    """Jobs of all owners that wait or run."""
    max_gpu_seconds: int = 300
    """Seconds of a lent GPU (ZeroGPU) that one training may take: a free account's quota of a day."""

    @classmethod
    def from_env(cls) -> "Settings":
        """Settings from the environment; an unset or empty variable leaves the default. Raises InputError."""
        on_space = bool(os.environ.get("SPACE_ID"))
        given: dict[str, Any] = {"visitors": on_space}
        if on_space and BUCKET.is_mount():
            given["home"] = BUCKET / "gcr"
        else:
            given["home"] = FORMER_HOME if FORMER_HOME.is_dir() and not HOME.exists() else HOME
        for field in fields(cls):
            variable = f"GCR_{field.name.upper()}"
            if text := os.environ.get(variable):
                given[field.name] = _parsed(variable, text, field.type)
        return cls(**given)


def _parsed(variable: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in WORDS:
            raise InputError(f"{variable} is {text!r}, neither yes nor no: set it to 1 or 0")
        return WORDS[text.lower()]
    if kind is int:
        if not (text.isascii() and text.isdigit()):
            raise InputError(f"{variable} is {text!r}, no whole number from 0: write digits only")
        return int(text)
    if kind is Path:
        return Path(text).expanduser().absolute()
    return tuple(text.replace(",", " ").split()) if kind == tuple[str, ...] else text
