"""Whose token a push of the page goes out with."""

import pytest

from gcr_core.errors import InputError
from gcr_core.settings import Settings
from gcr_core.ui import hub_push
from gcr_core.ui.gradio_import import gr

SIGNED_IN = gr.OAuthToken(token="hf_signed_in", scope="contribute-repos", expires_at=0)
MINE, STRANGERS = Settings(), Settings(visitors=True)


@pytest.fixture
def pushed_with(monkeypatch, tiny_memory_dir):
    """pushed_with(settings, data, signed_in): the token that reaches the hub; None: the one saved on the machine."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    tokens = []

    def push(folder, name, token, public, pictures, on_progress):
        tokens.append(token)
        on_progress(2**20, 2**21)
        return {"url": "https://hub/me/x", "private": not public, "pictures": pictures}

    monkeypatch.setattr(hub_push, "push", push)

    def ask(settings, data, signed_in=None):
        told = []
        hub_push.pushing(settings, tiny_memory_dir, {"repository": "me/x"} | data, signed_in)(told.append)
        assert told == ["Pushing to me/x… 1.0 of 2.0 MiB"]
        return tokens.pop()

    return ask


def test_a_token_that_was_typed_goes_before_signing_in(pushed_with):
    assert pushed_with(STRANGERS, {"token": " hf_typed "}, SIGNED_IN) == "hf_typed"
    assert pushed_with(STRANGERS, {"token": ""}, SIGNED_IN) == "hf_signed_in"


def test_the_token_saved_on_the_machine_serves_its_owner_and_no_visitor(pushed_with):
    assert pushed_with(MINE, {}) is None
    for nothing in ({}, {"token": "  "}):
        with pytest.raises(InputError, match="a push needs a token"):
            pushed_with(STRANGERS, nothing)


def test_the_form_says_what_serves_where_no_token_is_typed(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    assert hub_push.instead_of_token(MINE) == "the one saved on this machine"
    assert hub_push.instead_of_token(STRANGERS) == ""
    monkeypatch.setattr(hub_push, "find_spec", lambda name: name == "authlib")
    for name, value in {"SPACE_ID": "somebody/gcr", "OAUTH_CLIENT_ID": "x"}.items():
        monkeypatch.setenv(name, value)
        assert not hub_push.can_sign_in()
    monkeypatch.setenv("SYSTEM", "spaces")
    assert "signed in" in hub_push.instead_of_token(STRANGERS)
