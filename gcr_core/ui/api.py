"""API: the endpoints `/memorize`, `/job` and `/memories`: what the Memorise tab does, for programs."""

from gcr_core.errors import GcrError, InputError
from gcr_core.serving.importing import DEFAULT_NAME, Importing, read_report
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.memorize_tab import MemorizeTab
from gcr_core.ui.uploads import laid_out


def offer(tab: MemorizeTab) -> None:
    """The endpoints of the API; each does what the page does, for whoever owns the secret that came along."""

    def memorize(
        pictures: list[dict],
        request: gr.Request,
        preset: str = "balanced",
        name: str = "",
        identifiers: str = "atomic",
        seed: int = 0,
    ) -> dict:
        """Begins to memorise pictures: image files, zips, metadata.jsonl or metadata.csv, uploaded with handle_file.
        `preset` is quick, balanced or thorough. Returns the job (see /job), with "skipped": the files left out."""
        tab.draft.check_training()
        recipe = tab.draft.recipe({"preset": preset, "identifiers": identifiers, "seed": seed})
        importing = Importing(tab.workspace(request), pictures, laid_out)
        gallery = importing.result()
        workspace = tab.workspace(request)
        report = read_report(workspace.gallery(gallery))
        try:
            id = tab.jobs.submit(workspace, gallery, recipe, name or report.get("name") or DEFAULT_NAME)
        except GcrError:
            workspace.delete(gallery)
            raise
        return tab.jobs.status(workspace, id) | {"skipped": report["skipped"]}

    def job(id: str, request: gr.Request, action: str = "status") -> dict:
        """Where one of your jobs stands: its state, stage, step of steps, seconds left, loss, share memorised, and in
        the end its report and the id of its memory. `action`: status, stop, resume or remove."""
        workspace = tab.workspace(request)
        if action not in ("status", "stop", "resume", "remove"):
            raise InputError(f"action is {action!r}: choose status, stop, resume or remove")
        if action != "status":
            tab.do(workspace, action, id)
        return {"id": id, "state": "removed"} if action == "remove" else tab.jobs.status(workspace, id)

    def memories(request: gr.Request, action: str = "list", memory: str = "", name: str = "") -> dict:
        """Your memories and jobs, the newest first. `action`: list; rename, with the id of a `memory` and its new
        `name`; or delete, with its id. A memory is downloaded from /download/ID."""
        workspace = tab.workspace(request)
        if action == "rename":
            tab.change(request, "rename", memory, name)
        elif action == "delete":
            tab.change(request, "delete", memory)
        elif action != "list":
            raise InputError(f"action is {action!r}: choose list, rename or delete")
        return {"memories": workspace.memories(), "jobs": tab.jobs.list(workspace)}

    gr.api(memorize, api_name="memorize")
    gr.api(job, api_name="job")
    gr.api(memories, api_name="memories")
