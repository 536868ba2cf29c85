"""Job view: a training that waits, runs or has ended before its memory was made, as a card. Functions to a string.

One that is done has no card: its memory's stands in its place.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from gcr_core.serving.job import DONE, QUEUED, RESUMABLE, RUNNING, STOPPED, STOPPING, UNFINISHED
from gcr_core.ui.html import count, duration, text, without_paths

CURVE = (600, 120)
"""The width and the height of a loss curve, in its own units."""

STAGES = {
    "prepare": "Getting ready",
    "dense": "Turning pictures and captions into CLIP vectors",
    "look": "Looking at the pictures",
    "read": "Reading the captions",
    "memorise": "Learning which picture is which",
    "describe": "Learning to describe them",
    "retrieve": "Learning to find them by words",
    "measure": "Asking it what it remembers",
    "save": "Saving the memory",
}
NOT_KEPT = ("dense", "read", "measure")
"""The stages of which a stopped training keeps nothing."""
STATES = {QUEUED: "waiting", RUNNING: "memorising"}
"""The words for those states of a job that its badge does not show as they are."""


def jobs(rows: Sequence[dict[str, Any]], losses: dict[str, list[dict[str, Any]]]) -> str:
    """A card for each job that has no memory yet; `losses` by the job's id."""
    return "".join(_job(row, losses.get(row["id"], [])) for row in rows if row["state"] != DONE)


def finished(name: str) -> str:
    """What every open page says once a training is done."""
    return f"“{name}” is memorised."


def _job(job: dict[str, Any], points: list[dict[str, Any]]) -> str:
    state, id, name = job["state"], job["id"], text(job["name"])
    does = []
    if state in UNFINISHED:
        does = [_button("stop", id, "Stop", disabled=state == STOPPING)]
    if state in RESUMABLE:
        does = [_button("resume", id, "Resume", "primary")]
    if state not in UNFINISHED:
        does.append(
            f'<button type="button" class="quiet" data-ask="sure" data-words="Give up “{name}”? What was learnt so far '
            'is lost; its pictures and captions stay, to be memorised anew." data-verb="Give up" data-do="remove" '
            f'data-job="{id}">Give up</button>'
        )
    return (
        f'<article class="job {state}" aria-label="{name}"><header><h3>{name}</h3>'
        f'<span class="badge" role="status">{STATES.get(state, state)}</span></header>{_progress(job, points)}'
        f'<p class="does">{"".join(does)}</p></article>'
    )


def _button(verb: str, job: str, words: str, look: str = "", disabled: bool = False) -> str:
    off = " disabled" if disabled else ""
    return f'<button type="button" class="{look}" data-do="{verb}" data-job="{job}"{off}>{words}</button>'


def _said(job: dict[str, Any]) -> str:
    """What there is to say of a job besides its progress: why it ended, what a Resume begins again."""
    stage = job.get("stage") or ""
    if job["state"] == STOPPED:
        words = "Resume goes on where it stopped."
        return f"Stopped while “{STAGES[stage]}”: Resume begins that again." if stage in NOT_KEPT else words
    if job["state"] == RUNNING and stage in NOT_KEPT and _reached(stage, job.get("resumed")):
        return "Begins again: of this part nothing is kept when a training stops."
    return without_paths(job.get("message") or "")


def _progress(job: dict[str, Any], points: list[dict[str, Any]]) -> str:
    said = _said(job)
    message = f'<p class="why" role="status">{text(said)}</p>' if said else ""
    if job["state"] == QUEUED:
        before = job.get("queue_position") or 0
        place = f"Begins after {count(before, 'other training')}" if before else "Next in line"
        return f'{message}<p class="now">{place}</p>'
    step, steps = job.get("step") or 0, job.get("steps") or 0
    counted, done, total = "step", step, steps
    if job.get("looks"):
        counted = {"dense": "vector", "read": "caption"}.get(job.get("stage") or "", "view")
        done, total = job["looked"], job["looks"]
    facts = [f"{counted} {done:,} of {total:,}"] if total else []
    if job["state"] == RUNNING and job.get("seconds_left"):
        facts.append(f"{duration(job['seconds_left'])} left")
    if job.get("memorized") is not None:
        facts.append(f"<b>{job['memorized']:.0%}</b> memorised")
    if job.get("loss") is not None and not job.get("looks"):
        facts.append(f"loss {job['loss']:.2f}")
    stage = STAGES.get(job.get("stage") or "", "") if job["state"] in UNFINISHED else ""
    return (
        f'{message}<p class="now" role="status">{stage}</p>'
        f'<progress max="{max(1, total)}" value="{done}" aria-label="{counted}s"></progress>'
        f'<p class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>{_curve(points, steps)}'
    )


def _curve(points: list[dict[str, Any]], steps: int) -> str:
    """Loss as a line and the share memorised as an area, both over the steps of the training."""
    losses = [point for point in points if point.get("loss") is not None]
    if len(losses) < 2:
        return ""
    width, height = CURVE
    end, highest = max(steps, losses[-1]["step"], 1), max(point["loss"] for point in losses) or 1

    def drawn(values: Iterable[tuple[int, float]], most: float) -> str:
        return " ".join(f"{step / end * width:.1f},{(1 - value / most) * height:.1f}" for step, value in values)

    line = drawn(((point["step"], point["loss"]) for point in losses), highest)
    shares = [(point["step"], point["memorized"]) for point in points if point.get("memorized") is not None]
    if shares:
        shares = [(shares[0][0], 0.0), *shares, (shares[-1][0], 0.0)]
    words = f"loss from {losses[0]['loss']:.2f} to {losses[-1]['loss']:.2f}"
    return (
        f'<figure class="curve"><svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><polygon points="{drawn(shares, 1)}"/><polyline points="{line}"/></svg>'
        '<figcaption><span class="memory">loss</span><span class="share">share memorised</span></figcaption></figure>'
    )


def _reached(stage: str, stopped_in: str | None) -> bool:
    """Whether a training that was stopped in a stage had begun another."""
    order = list(STAGES)
    return stopped_in in STAGES and order.index(stage) <= order.index(stopped_in)
