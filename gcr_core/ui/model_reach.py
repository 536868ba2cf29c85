"""Model reach: whether a model can be had, one that is here or one of the hub; the hub is asked beside the page."""

import threading
import time
from pathlib import PurePosixPath

from gcr_core.files.hub import here

ASK_SECONDS = 5.0
"""How long the hub may take to answer."""
AGAIN_SECONDS = 30.0
"""After so long a model that could not be had is asked for again."""


class ModelReach:
    """Remembers what the hub has answered of each model."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        """A hub id → why it cannot be had; "" where it can."""
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()

    def lacks(self, name: str, instead: str) -> str | None:
        """Why a model cannot be had, in one line; "" where it can, None while the hub is asked.

        Raises HubError, naming what to use `instead`, for what is neither a folder nor a hub id.
        """
        if here(name, instead):
            return ""
        with self._lock:
            due = time.monotonic() > self._asked.get(name, -AGAIN_SECONDS) + AGAIN_SECONDS
            if due and self.known.get(name) != "":
                self._asked[name] = time.monotonic()
                threading.Thread(target=self._ask, args=(name,), name="model-reach", daemon=True).start()
            return self.known.get(name)

    def _ask(self, name: str) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        short = PurePosixPath(name).name
        try:
            HfApi().model_info(name, timeout=ASK_SECONDS)
            self.known[name] = ""
        except RepositoryNotFoundError:
            self.known[name] = f"The Hugging Face hub has no model {name!r}, or none that is public."
        except Exception:  # no connection, a hub that is down, one that must not be asked
            self.known[name] = f"{short} cannot be downloaded: the Hugging Face hub cannot be reached from here."
