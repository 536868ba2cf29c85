"""Page: head, theme and files around the tabs. `build`, then `launch`."""

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from gcr_core.serving import retention
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.settings import ROOT, Settings
from gcr_core.ui import api, edits, hosting, memorize_tab, routes, search_tab, zerogpu
from gcr_core.ui.auth import OwnerCookie, Visitors
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.registry import Registry

UPLOADS_KEPT_SECONDS = 3600
"""How long Gradio keeps an uploaded file."""
TOOL = "/search"
"""The one endpoint that language models may call by MCP."""
QUEUED_REQUESTS = 200
"""How many requests of all visitors may wait; who comes later is told that the queue is full."""
QUEUE_SECONDS = 0.01
"""How long Gradio's queue sleeps before it looks for a request again. Its own 0.001 s keep a core awake for nothing."""
ASSETS = ROOT / "assets"

# The scripts stand in the page itself: Gradio asks its first questions without waiting for files.
HEAD = f"""
<link rel="stylesheet" href="app.css">
<meta name="description" content="A language model recalls images from its parameters, beside CLIP + FAISS.">
<script>{(ASSETS / "answers.js").read_text(encoding="utf-8")}</script>
<script>{(ASSETS / "edits.js").read_text(encoding="utf-8")}</script>
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


class App:
    """The processes, folders and memories behind one page."""

    def __init__(self, settings: Settings, loading: LoadingMemory, memory_host: ModelProcess) -> None:
        requests = zerogpu.Requests()
        self.settings = settings
        self.visitors = Visitors(settings, requests.remember if zerogpu.is_here() else lambda root: None)
        self.registry = Registry(loading, memory_host, self.visitors)
        self.jobs = JobQueue(
            settings.home, zerogpu.Slices(requests, settings.max_gpu_seconds) if zerogpu.is_here() else None
        )
        self.routes: list[BaseRoute] = [*routes.routes(self.registry), hosting.health(loading), *_look()]
        retention.begin(settings)


def build(app: App, examples: tuple[str, ...]) -> gr.Blocks:
    """The whole page; `examples` are the queries to begin with."""
    with gr.Blocks(
        title="Generative cross-modal retrieval",
        analytics_enabled=False,
        delete_cache=(UPLOADS_KEPT_SECONDS, UPLOADS_KEPT_SECONDS),
    ) as page:
        gr.HTML(INTRODUCTION, apply_default_css=False)
        if notices := hosting.notices(app.settings):
            gr.HTML(notices, apply_default_css=False, elem_id="hosting")
        with gr.Tabs(selected="search", elem_id="tabs") as tabs:
            with gr.Tab("Search", id="search", elem_id="search") as tab:
                searching = search_tab.build(page, tab, app.registry, examples)
            with gr.Tab("Memorise", id="memorise", elem_id="memorise", render_children=True) as tab:
                memorising = memorize_tab.build(page, tab, app.registry, app.jobs, searching, tabs)
                api.offer(memorising)
    app.routes.append(edits.route(memorising.draft.edits))
    page.queue(default_concurrency_limit=4, max_size=QUEUED_REQUESTS)
    page._queue.sleep_when_free = QUEUE_SECONDS
    return page


def launch(page: gr.Blocks, app: App, host: str | None = None, port: int | None = None) -> str:
    """Serves the page from a thread of its own, never shared, and returns its address.

    Without `host` and `port` Gradio decides: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, else this machine
    only and the first free port from 7860. With GRADIO_MCP_SERVER the search is also an MCP tool, and nothing else.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=_theme(),
        head=HEAD,
        favicon_path=ASSETS / "icon.svg",
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        max_file_size=app.settings.max_upload_bytes,
        app_kwargs={
            "routes": app.routes,
            "middleware": [Middleware(OwnerCookie)] if app.settings.visitors else [],
        },
    )
    if page.mcp_server_obj:
        offered = page.mcp_server_obj.tool_to_endpoint
        page.mcp_server_obj.tool_to_endpoint = {name: path for name, path in offered.items() if path == TOOL}
    return address


def _look() -> list[BaseRoute]:
    """The stylesheet, its font and the script: as files, since Gradio rewrites a stylesheet that it is handed."""

    def asset(request: Request) -> Response:
        return FileResponse(ASSETS / request.url.path.rsplit("/", 1)[-1], headers={"Cache-Control": "no-cache"})

    return [
        Route("/app.css", asset),
        Route("/app.js", asset),
        Route("/no-picture.svg", asset),
        Mount("/fonts", StaticFiles(directory=ASSETS / "fonts")),
    ]


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
