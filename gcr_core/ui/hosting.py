"""Hosting: what the page says of the place where it runs, and whether that place will do.

On a Space or in a container what is stored may be lost with the next restart, and training may be switched off.
"""

import os
import secrets
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcr_core.errors import GcrError, InputError
from gcr_core.files import atomic
from gcr_core.files.locks import try_lock
from gcr_core.serving.loading import LoadingMemory
from gcr_core.settings import BUCKET, Settings
from gcr_core.ui import html
from gcr_core.ui.html import text
from gcr_core.ui.limits import HEALTH

SPACES = "https://huggingface.co/spaces"
HANGS = "the memory's process gives no sign of life: if that goes on it is ended and started again"
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


def check_home(home: Path) -> None:
    """Raises InputError for a folder that cannot keep galleries and memories: files are written, locked and renamed."""
    probe = home / f"probe-{secrets.token_hex(4)}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with atomic.new_folder(probe) as folder:
            atomic.write_text(folder / "file", "")
        lock = try_lock(probe / "file")
        atomic.remove(probe)
        if lock is not None:
            os.close(lock)
    except OSError as error:
        raise InputError(
            f"GCR_HOME is {home}, which cannot keep anything ({error.strerror or error}): name a folder on a disk "
            "where files can be written, renamed and locked"
        ) from error


def is_ephemeral(home: Path) -> bool:
    """Whether what is kept there is lost with a restart: in a container, on the same disk as the container's root."""
    contained = bool(os.environ.get("SPACE_ID")) or any(Path(mark).exists() for mark in CONTAINER_MARKS)
    return contained and _disk(home) == _disk(Path("/"))


def notices(settings: Settings) -> str:
    """What whoever opens the page should know of the place, as HTML; nothing on one's own machine. What has data-once
    is shown by assets/desk.js until it is dismissed."""
    space = os.environ.get("SPACE_ID", "")
    lines = []
    if space and not settings.training:
        lines.append(
            "<b>This page searches; memorising is switched off.</b> Duplicate the Space to memorise pictures of your "
            f'own. <a class="button" href="{SPACES}/{text(space)}?duplicate=true" target="_blank">Duplicate this '
            "Space</a>"
        )
    shown = "".join(f'<p class="note warning" role="note">{line}</p>' for line in lines)
    if space and settings.training and is_ephemeral(settings.home):
        shown += (
            '<p class="note warning once" role="note" data-once="lost-on-restart" hidden><span>What you memorise here '
            "is lost when this Space restarts: download the memories that you want to keep.</span>"
            '<button type="button" data-dismiss aria-label="Dismiss">×</button></p>'
        )
    return shown


def advise(settings: Settings) -> str:
    """What whoever runs the app should do about the place, in a line for its log; nothing where it will do."""
    if not settings.training or not is_ephemeral(settings.home):
        return ""
    home = settings.home
    where = f"attach a storage bucket at {BUCKET}" if os.environ.get("SPACE_ID") else f"mount a volume at {home}"
    return f"galleries and memories are in {home}, on the container's own disk, and are lost with it: {where}"


def kept_for(settings: Settings) -> str:
    """How long the page keeps what its visitors made, in words; nothing where it is for good."""
    if not settings.visitors or not settings.unused_days:
        return ""
    days = html.count(settings.unused_days, "day")
    return f"Kept until {days} after your last visit: download what you want for longer."


def health(loading: LoadingMemory) -> Route:
    """`/health`: 200 while the page answers, 503 where the memory that it opens with could not be loaded, and while its
    process hangs."""

    async def answer(request: Request) -> Response:  # so that it waits for no thread that others keep busy
        state = loading.state_now
        reason = HANGS if state == "hung" else ""
        try:
            if state == "failed":
                loading.wait()
        except GcrError as failure:
            reason = str(failure)
        return JSONResponse({"memory": state, "reason": reason}, 503 if reason else 200)

    return Route(HEALTH, answer)


def _disk(folder: Path) -> int:
    """The device of a folder, or of the nearest one above it that is there."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return there.stat().st_dev
