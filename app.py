"""The web app: `python app.py`, then http://127.0.0.1:7860. Gradio's own GRADIO_* variables are respected."""

import sys
from contextlib import suppress

from gcr_core.errors import one_line
from gcr_core.runtime import (
    INTERRUPTED,
    USER_MISTAKE,
    Parser,
    collect_seldom,
    interrupt_imports,
    keep_quiet,
    open_streams,
)

EXAMPLES = (
    "a happy dog",
    "someone sleeping in bed",
    "slice of pepperoni pizza",
    "stormy weather",
    "I can't hear you",
    "going to the beach",
)
"""Queries for the memory that ships; another one suggests captions of its own gallery."""

# Here and not in `main`, as the processes of the app import this file when they start.
open_streams()
collect_seldom()
keep_quiet()


def main() -> None:
    """Serves the page until Ctrl-C. What takes long to import is imported here, so that Ctrl-C is heard meanwhile."""
    interrupt_imports()
    import os
    from pathlib import Path

    from gcr_core.serving.loading import LoadingMemory
    from gcr_core.serving.remote_memory import RemoteMemory, memory_host
    from gcr_core.settings import Settings
    from gcr_core.ui import hosting, zerogpu
    from gcr_core.ui.address import check_address

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # The page says what is under way.
    settings = Settings.from_env()
    parser = Parser(prog="app.py", description="A web page that recalls images, beside CLIP + FAISS.")
    parser.add_argument("--memory", default=settings.memory, help="folder or hub id (default: %(default)s)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", help="port (default: the first free one from 7860)")
    options = parser.parse_args()
    check_address(options.host, options.port)
    port = int(options.port) if options.port else None
    hosting.check_home(settings.home)
    if advice := hosting.advise(settings):
        print(f"app.py: {advice}", file=sys.stderr, flush=True)

    memories = zerogpu.host(memory_host, "memory")
    memory = LoadingMemory(lambda: RemoteMemory.fetch(options.memory, memories))
    if zerogpu.is_here():
        memory.load()
    else:
        memory.start()
    # Importing Gradio takes seconds: the memory loads meanwhile.
    from gcr_core.ui import page

    shipped = Path(options.memory).resolve() == Path(Settings.memory)
    examples = EXAMPLES if shipped else ()
    app = page.App(settings, memory, memories)
    blocks = page.build(app, examples)
    address = page.launch(blocks, app, options.host, port)
    with suppress(OSError):  # The page is served, whoever reads of it.
        print(f"The page is at {address} (Ctrl-C ends it).", flush=True)
    blocks.block_thread()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if (mistake := one_line(error)) is None:
            raise
        print(f"app.py: {mistake}", file=sys.stderr)
        sys.exit(USER_MISTAKE)
