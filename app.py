"""The web app: `python app.py`, then http://127.0.0.1:7860. Gradio's own GRADIO_* variables are respected."""

import argparse
import os
import sys
from pathlib import Path

from gcr_core.errors import GcrError
from gcr_core.runtime import collect_seldom, keep_quiet
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.remote_memory import RemoteMemory, memory_host
from gcr_core.settings import Settings
from gcr_core.ui import zerogpu

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
collect_seldom()
keep_quiet()


def main() -> None:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # The page says what is under way.
    settings = Settings.from_env()
    parser = argparse.ArgumentParser(description="A web page that recalls images, beside CLIP + FAISS.")
    parser.add_argument("--memory", default=settings.memory, help="folder or hub id (default: %(default)s)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    options = parser.parse_args()

    memories = zerogpu.host(memory_host, "memory")
    memory = LoadingMemory(lambda: RemoteMemory.fetch(options.memory, memories))
    if zerogpu.is_here():
        memory.load()
    else:
        memory.start()
    # Importing Gradio takes seconds: the memory loads meanwhile.
    from gcr_core.ui import hosting, page

    hosting.check_home(settings.home)
    shipped = Path(options.memory).resolve() == Path(Settings.memory)
    examples = EXAMPLES if shipped else ()
    app = page.App(settings, memory, memories)
    blocks = page.build(app, examples)
    address = page.launch(blocks, app, options.host, options.port)
    print(f"The page is at {address} (Ctrl-C ends it).", flush=True)
    blocks.block_thread()


if __name__ == "__main__":
    try:
        main()
    except GcrError as mistake:
        print(f"app.py: {mistake}", file=sys.stderr)
        sys.exit(2)
