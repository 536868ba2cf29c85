"""Retention: workspaces of strangers who have not come back for a number of days are removed, lest they fill the disk.

A workspace is in use when a request of its owner comes in, which its file `used` notes, when something in it changes,
and while a job of it waits or runs. Noting a use and removing a workspace exclude each other, in all processes: an
owner who comes back finds everything or nothing. The workspace of one's own machine is never removed.
"""

import contextlib
import shutil
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock

from gcr_core.files import atomic
from gcr_core.serving.job import UNFINISHED, Job
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings

NOTE = "used"
"""The file of a workspace whose time says when its owner was last here."""
NOTED_EVERY_SECONDS = 3600
"""How often a use is noted, at most."""
LOOK_EVERY_SECONDS = 3600
"""How often unused workspaces are looked for."""
DAY_SECONDS = 24 * 3600


def begin(settings: Settings) -> None:
    """Removes unused workspaces now and every hour, in a thread, where those who use the page are strangers."""
    if settings.visitors and settings.unused_days:
        threading.Thread(target=_go_on_removing, args=(settings,), name="disuse", daemon=True).start()


def note_use(root: Path) -> None:
    """Notes that the owner of the workspace in this folder is here; an owner who keeps nothing has no folder."""
    note = root / NOTE
    if not root.is_dir() or (note.exists() and time.time() - note.stat().st_mtime < NOTED_EVERY_SECONDS):
        return
    with _lock(root):
        if root.is_dir():
            note.touch()


def remove_unused(home: Path, days: int) -> list[Path]:
    """Removes the strangers' workspaces below `home` that nobody has used for so many days; returns their folders.

    One that was never looked at before counts as used now. One that cannot be read or removed is reported on stderr.
    """
    owners, removed = home / "owners", []
    atomic.sweep(owners)
    for root in sorted(owners.iterdir()) if owners.is_dir() else []:
        if root.name.startswith("."):
            continue
        try:
            if not (root / NOTE).exists():
                note_use(root)
            # Nobody waits for the lock while the many that are in use are looked at.
            if _is_unused(root, days) and (aside := _put_aside(root, days)):
                shutil.rmtree(aside, ignore_errors=True)
                removed.append(root)
        except (OSError, ValueError, KeyError) as error:
            print(f"gcr_core: the workspace {root.name[:12]}… is kept: {error!r}", file=sys.stderr)
    return removed


def _go_on_removing(settings: Settings) -> None:
    while True:
        with contextlib.suppress(OSError):
            remove_unused(settings.home, settings.unused_days)
        time.sleep(LOOK_EVERY_SECONDS)


def _put_aside(root: Path, days: int) -> Path | None:
    """Where the workspace is, out of everybody's sight; None where its owner came back in the last moment."""
    with _lock(root):
        return atomic.put_aside(root) if _is_unused(root, days) else None


def _is_unused(root: Path, days: int) -> bool:
    used = max(path.stat().st_mtime for path in (root / NOTE, *root.glob("*/*")))
    return time.time() - used > days * DAY_SECONDS and not _has_unfinished_job(root)


def _has_unfinished_job(root: Path) -> bool:
    jobs = (Job(root / "jobs" / id) for id in Workspace(root).ids("jobs"))
    return any(job.status()["state"] in UNFINISHED for job in jobs)


def _lock(root: Path) -> FileLock:
    return FileLock(root.parents[1] / "owners.lock")
