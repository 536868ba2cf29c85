"""Retention: workspaces of strangers who have not come back for a number of days are removed, lest they fill the disk.

A workspace is in use when a request of its owner comes in, which its file `used` notes, when something in it changes,
and while a job of it waits or runs. Days are those that the machine was up, counted in `owners.uptime`: a clock that
jumps removes nothing. Noting a use and removing a workspace exclude each other, in all processes: an owner who comes
back finds everything or nothing. The workspace of one's own machine is never removed.
"""

import contextlib
import json
import shutil
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock

from gcr_core.files import atomic
from gcr_core.files.uptime import count_on, uptime
from gcr_core.serving.job import UNFINISHED, Job
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings

NOTE = "used"
"""The file of a workspace that says when it was last used, and what had changed last then."""
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
    """Notes that the owner of the workspace in this folder is here; an owner who keeps nothing has no folder. On a disk
    that is full, or can only be read, nothing is noted, and nothing removed."""
    if not root.is_dir():
        return
    now, (used, _) = uptime(_uptime(root)), _noted(root)
    if used is not None and 0 <= now - used < NOTED_EVERY_SECONDS:
        return
    with contextlib.suppress(OSError), _lock(root):
        if root.is_dir():
            _note(root, now)


def remove_unused(home: Path, days: int) -> list[Path]:
    """Removes the strangers' workspaces below `home` that nobody has used for so many days; returns their folders.

    One that was never looked at before counts as used now. One that cannot be read or removed is reported on stderr.
    """
    owners = home / "owners"
    removed: list[Path] = []
    if not owners.is_dir():
        return removed
    with _lock(owners / "any"):
        count_on(_uptime(owners / "any"))
    atomic.sweep(owners)
    for root in sorted(owners.iterdir()):
        if root.name.startswith("."):
            continue
        try:
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
    now, (used, newest) = uptime(_uptime(root)), _noted(root)
    if used is None or used > now or newest != _newest(root):
        _note(root, now)
        return False
    return now - used > days * DAY_SECONDS and not _has_unfinished_job(root)


def _noted(root: Path) -> tuple[float | None, int]:
    """When a workspace was last used, None where that is not known, and the time of its last change then."""
    try:
        note = json.loads((root / NOTE).read_text(encoding="utf-8"))
        return float(note["used"]), int(note["newest"])
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None, 0


def _note(root: Path, now: float) -> None:
    atomic.write_text(root / NOTE, json.dumps({"used": now, "newest": _newest(root)}))


def _newest(root: Path) -> int:
    """The time of the last change in a workspace, whatever clock that was by."""
    return max((path.stat().st_mtime_ns for path in root.glob("*/*")), default=0)


def _has_unfinished_job(root: Path) -> bool:
    jobs = (Job(root / "jobs" / id) for id in Workspace(root).ids("jobs"))
    return any(job.status()["state"] in UNFINISHED for job in jobs)


def _uptime(root: Path) -> Path:
    return root.parents[1] / "owners.uptime"


def _lock(root: Path) -> FileLock:
    return FileLock(root.parents[1] / "owners.lock")
