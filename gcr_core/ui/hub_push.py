"""Hub push: a memory goes to the hub from the page, as whoever asks.

A push goes out with the token that the person typed, or with the one that signing in on a Space gave. The one saved on
the machine serves its owner only, never a visitor. No token is kept.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from gcr_core.errors import InputError
from gcr_core.memory.manifest import read_manifest
from gcr_core.memory.publish import push
from gcr_core.settings import Settings
from gcr_core.ui.gradio_import import gr


def can_sign_in() -> bool:
    """Whether this is a Space that signs people in (`hf_oauth: true`) and has what Gradio needs for it.

    Anywhere else Gradio would sign everybody in as whoever's token the machine has.
    """
    return bool(gr.utils.get_space() and os.environ.get("OAUTH_CLIENT_ID") and find_spec("authlib"))


def sign_in() -> None:
    """The button that a Space has for it, in the present place of the page."""
    if can_sign_in():
        gr.LoginButton("Sign in to push memories to the hub", elem_id="sign-in", size="sm")


def instead_of_token(settings: Settings) -> str:
    """What serves where no token is typed, in words; nothing where one must be."""
    if can_sign_in():
        return "none, if you are signed in"
    return "" if settings.visitors or not get_token() else "the one saved on this machine"


def pushing(
    settings: Settings, folder: Path, data: dict[str, Any], signed_in: gr.OAuthToken | None
) -> Callable[[Callable[[str], None]], str]:
    """The work of pushing the memory in a folder as a form asks for it: it tells progress in words, and how it ended.

    Raises InputError where there is no token to push with, MemoryFormatError for what is no memory.
    """
    read_manifest(folder)
    token = str(data.get("token") or "").strip() or (signed_in.token if signed_in else None)
    if token is None and (settings.visitors or not get_token()):
        raise InputError(
            "a push needs a token of the hub that may write: type one, from https://huggingface.co/settings/tokens"
            + (", or sign in" if can_sign_in() else "")
        )
    name, public, pictures = str(data.get("repository") or "").strip(), bool(data.get("public")), data.get("pictures")

    def work(say: Callable[[str], None]) -> str:
        def on_progress(done: int, total: int) -> None:
            say(f"Pushing to {name}… {done / 2**20:,.1f} of {total / 2**20:,.1f} MiB")

        pushed = push(folder, name, token, public, bool(pictures), on_progress)
        seen = "only you can see it" if pushed["private"] else "everybody can see it"
        gallery = "with its pictures" if pushed["pictures"] else "without its pictures"
        return f"Pushed to {pushed['url']}, {gallery}; {seen}."

    return work
