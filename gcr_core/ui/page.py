"""Page: head, theme and files around the tabs. `build`, then `launch`."""

from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from gcr_core.errors import GcrError, one_line
from gcr_core.serving import retention
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.settings import ROOT, Settings
from gcr_core.ui import (
    api,
    edits,
    evaluate_tab,
    freshness,
    gallery_routes,
    gallery_tab,
    hosting,
    memorize_tab,
    routes,
    search_tab,
    site,
    zerogpu,
)
from gcr_core.ui.auth import OwnerCookie, Visitors
from gcr_core.ui.fair_queue import FairQueue
from gcr_core.ui.gradio_import import Api, gr
from gcr_core.ui.html import without_paths
from gcr_core.ui.limits import Limits
from gcr_core.ui.registry import Registry
from gcr_core.ui.server import Server, end_slow_connections
from gcr_core.ui.upload_budget import UPLOADS_KEPT_SECONDS

TOOL = "/search"
"""The one endpoint that language models may call by MCP."""
RUN_AT_ONCE = 4
"""How often a function of the page may run at once, unless it says otherwise."""
SESSIONS = 2_000
"""How many sessions Gradio keeps; those that are over are dropped before."""
QUEUE_SECONDS = 0.01
"""How long Gradio's queue sleeps before it looks for a request again. Its own 0.001 s keep a core awake for nothing."""
ASSETS = ROOT / "assets"

STYLES = tuple(
    f"{name}.css"
    for name in (
        *("app", "query", "controls", "results", "cards", "trace", "memorize", "jobs", "address", "desk"),
        *("evaluate", "misses", "gallery", "lightbox"),
    )
)
"""The page's stylesheets; later ones build on earlier ones."""
LOOK = (*STYLES, *sorted(path.name for path in ASSETS.iterdir() if path.suffix in (".js", ".svg")))
"""Stylesheets, scripts and drawings, files at the page's root."""
AT_ONCE = ("answers.js", "edits.js", "address.js", "desk.js", "drop.js")
"""Scripts that stand in the page itself: Gradio asks its first questions without waiting for files."""

HEAD = f"""
{"".join(f'<link rel="stylesheet" href="{name}">' for name in STYLES)}
<meta name="description" content="A language model recalls images from its parameters, beside CLIP + FAISS.">
{"".join(f"<script>{(ASSETS / name).read_text(encoding='utf-8')}</script>" for name in AT_ONCE)}
"""

INTRODUCTION = """
<header id="introduction">
  <p class="eyebrow">Generative cross-modal retrieval</p>
  <h1>What does the model remember?</h1>
  <p class="lede">Say what is in a picture, and find it: among these or your own photographs. A language model
  <em class="memory">recalls</em> it from memory; beside it, CLIP + FAISS <em class="index">looks it up</em>.</p>
</header>
"""


class App:
    """The processes, folders and memories behind one page."""

    queue: FairQueue
    """Of the page's requests, once the page is built."""

    def __init__(self, settings: Settings, loading: LoadingMemory, memory_host: ModelProcess) -> None:
        requests = zerogpu.Requests()
        self.settings, self.lent = settings, requests.run if zerogpu.is_here() else None
        self.visitors = Visitors(settings, requests.remember if zerogpu.is_here() else lambda root: None)
        self.registry = Registry(loading, memory_host, self.visitors)
        self.jobs = JobQueue(
            settings.home, zerogpu.Slices(requests, settings.max_gpu_seconds) if zerogpu.is_here() else None
        )
        self.routes: list[BaseRoute] = [
            *routes.routes(self.registry),
            *gallery_routes.routes(self.registry),
            hosting.health(loading),
            *_look(),
        ]
        retention.begin(settings)


class Page(gr.Blocks):
    """The page and its endpoints."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Programs that post fewer values than an endpoint takes get the defaults of the rest, as clients of Gradio do:
        an endpoint may take more in a later version."""
        left_out = block_fn.inputs[len(inputs) :]
        if all(isinstance(parameter, Api) for parameter in left_out):
            inputs += [parameter.value for parameter in left_out]
        super().validate_inputs(block_fn, inputs)

    async def preprocess_data(self, *arguments: Any, **options: Any) -> Any:
        """What no page sends is a mistake of whoever sent it, not the program's."""
        try:
            return await super().preprocess_data(*arguments, **options)
        except gr.Error:
            raise
        except Exception as mistake:
            words = f"what was sent is not what this takes ({' '.join(str(mistake).split())[:200]}): reload the page"
            raise gr.Error(without_paths(words), print_exception=False) from mistake

    async def call_function(self, *arguments: Any, **options: Any) -> Any:
        """A mistake of the user's is told in one line, and so is a disk that is full or can only be read."""
        try:
            return await super().call_function(*arguments, **options)
        except GcrError as mistake:
            raise gr.Error(str(mistake), print_exception=False) from mistake
        except OSError as error:
            raise gr.Error(without_paths(str(one_line(error))), print_exception=False) from error


def build(app: App, examples: tuple[str, ...]) -> gr.Blocks:
    """The whole page; `examples` are the queries to begin with."""
    with Page(
        title="Generative cross-modal retrieval",
        analytics_enabled=False,
        delete_cache=(UPLOADS_KEPT_SECONDS, UPLOADS_KEPT_SECONDS),
    ) as page:
        gr.HTML(INTRODUCTION, apply_default_css=False)
        if notices := hosting.notices(app.settings):
            gr.HTML(notices, apply_default_css=False, elem_id="hosting")
        with gr.Tabs(selected="search", elem_id="tabs"):
            with gr.Tab("Search", id="search", elem_id="search") as tab:
                searching = search_tab.build(page, tab, app.registry, examples)
            with gr.Tab("Gallery", id="gallery", elem_id="gallery") as tab:
                gallery_tab.build(tab, searching)
            with gr.Tab("Test it", id="test", elem_id="test") as tab:
                testing = evaluate_tab.build(tab, app.registry, searching, bool(examples), app.lent)
            with gr.Tab("Memorise", id="memorise", elem_id="memorise", render_children=True) as tab:
                memorising = memorize_tab.build(page, tab, app.registry, app.jobs, searching)
                api.offer(memorising)
    app.routes += [edits.route(memorising.draft.edits), freshness.route(memorising.state), *testing.routes()]
    page.queue(api_open=False)
    app.queue = page._queue = FairQueue(page, app.settings, RUN_AT_ONCE)
    app.queue.sleep_when_free = QUEUE_SECONDS
    return page


def launch(page: gr.Blocks, app: App, host: str | None = None, port: int | None = None) -> str:
    """Serves the page from a thread of its own, never shared, and returns its address.

    Without `host` and `port` Gradio decides: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, else this machine
    only and the first free port from 7860. With GRADIO_MCP_SERVER the search is also an MCP tool, and nothing else.
    Raises InputError for hosts and origins in the settings that are none.
    """
    site.check_names(app.settings)

    def around(server: ASGIApp) -> ASGIApp:
        within: ASGIApp = Limits(server, app.settings, app.queue)
        return site.guarded(OwnerCookie(within) if app.settings.visitors else within, app.settings, host)

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
        state_session_capacity=SESSIONS,
        _app=Server(around, routes=app.routes),
    )
    end_slow_connections(page.server.config)
    if page.mcp_server_obj:
        offered = page.mcp_server_obj.tool_to_endpoint
        page.mcp_server_obj.tool_to_endpoint = {name: path for name, path in offered.items() if path == TOOL}
    return address


def _look() -> list[BaseRoute]:
    """Stylesheets, fonts, scripts and drawings: as files, since Gradio rewrites a stylesheet that it is handed."""

    def asset(request: Request) -> Response:
        return FileResponse(ASSETS / request.url.path.rsplit("/", 1)[-1], headers={"Cache-Control": "no-cache"})

    return [
        *(Route(f"/{name}", asset) for name in LOOK),
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
