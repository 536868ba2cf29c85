"""The page: head, theme and the route of the gallery's images around the tabs. `build`, then `launch`."""

import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from gcr_core.settings import ROOT
from gcr_core.ui import search
from gcr_core.ui.quick_gradio import gr
from gcr_core.ui.waking import WakingMemory

MAX_UPLOAD = "32mb"
UPLOADS_KEPT_SECONDS = 3600
ASSETS = ROOT / "assets"
PICTURE_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}

HEAD = """
<link rel="stylesheet" href="app.css">
<meta name="description" content="A language model recalls images from its parameters, beside CLIP + FAISS.">
<script>
// A card and its twin on the other side light up together.
document.addEventListener("mouseover", (event) => {
  const card = event.target.closest?.(".card[data-image]");
  for (const lit of document.querySelectorAll(".card.lit")) lit.classList.remove("lit");
  if (!card) return;
  const twins = document.querySelectorAll(`.card[data-image="${card.dataset.image}"]`);
  if (twins.length > 1) for (const twin of twins) twin.classList.add("lit");
});
</script>
"""

INTRODUCTION = """
<header id="introduction">
  <p class="eyebrow">Generative cross-modal retrieval</p>
  <h1>What does the model remember?</h1>
  <p class="lede">A language model has <em class="memory">memorised</em> the images of a gallery. Ask, and it
  generates the identifier of one, token by token. Beside it, CLIP + FAISS <em class="index">looks up</em> the
  same query in an index.</p>
</header>
"""


def build(memory: WakingMemory, examples: tuple[str, ...]) -> gr.Blocks:
    """The whole page; `examples` are the queries to begin with."""
    with gr.Blocks(
        title="Generative cross-modal retrieval",
        analytics_enabled=False,
        delete_cache=(UPLOADS_KEPT_SECONDS, UPLOADS_KEPT_SECONDS),
    ) as page:
        gr.HTML(INTRODUCTION, apply_default_css=False)
        search.build(memory, examples)
    return page.queue(default_concurrency_limit=4)


def launch(page: gr.Blocks, memory: WakingMemory, host: str | None = None, port: int | None = None) -> str:
    """Serves the page from a thread of its own, never shared, and returns its address.

    Without `host` and `port` Gradio decides: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, else this machine
    only and the first free port from 7860.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=_theme(),
        head=HEAD,
        favicon_path=ASSETS / "icon.svg",
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        max_file_size=MAX_UPLOAD,
        app_kwargs={"routes": [_pictures(memory), *_look()]},
    )
    return address


def _pictures(waking: WakingMemory) -> Route:
    """The route of the gallery's images: by index, so that no other file can be asked for."""

    def picture(request: Request) -> Response:
        index = request.path_params["index"]
        if waking.state != "ready" or index >= len(waking.wait().gallery):
            return Response(status_code=404)
        path: Path = waking.wait().gallery.path(index)
        media_type = mimetypes.guess_type(path.name)[0] or ""
        if not media_type.startswith("image/") or "svg" in media_type:
            return Response(status_code=404)
        return FileResponse(path, media_type=media_type, headers=PICTURE_HEADERS)

    return Route("/picture/{index:int}/{version}", picture)


def _look() -> list[BaseRoute]:
    """The stylesheet and its font: as files, since Gradio rewrites a stylesheet that it is handed."""

    def stylesheet(_: Request) -> Response:
        return FileResponse(ASSETS / "app.css", headers={"Cache-Control": "no-cache"})

    return [Route("/app.css", stylesheet), Mount("/fonts", StaticFiles(directory=ASSETS / "fonts"))]


def _theme() -> gr.themes.Base:
    """Fonts that come with Gradio, so that the page asks no other host for any; colours are in app.css."""
    fonts = gr.themes.utils.fonts
    return gr.themes.Base(
        primary_hue="violet",
        secondary_hue="teal",
        neutral_hue="stone",
        radius_size="lg",
        font=[fonts.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
        font_mono=[fonts.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    )
