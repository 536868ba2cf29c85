"""What `make test-firefox` needs: the tests of `browser/`, in Firefox."""

import os

import pytest

IN_FIREFOX = os.environ.get("TEST_BROWSER") == "firefox"
MOUSE = {"ui.primaryPointerCapabilities": 6, "ui.allPointerCapabilities": 6}
"""Preferences for a fine pointer that hovers, which Firefox misses on a machine without one."""
SCHEMES = {"dark": 0, "light": 1}
"""The values of the preference for how pages look."""

of_chromium = pytest.mark.skipif(IN_FIREFOX, reason="Playwright does that in Chromium alone")


def launch_options(scheme: str) -> dict:
    """How Playwright starts a Firefox that any distribution packages, with a colour scheme for all its pages."""
    look = {"layout.css.prefers-color-scheme.content-override": SCHEMES[scheme]}
    return {"channel": "moz-firefox", "firefox_user_prefs": look | MOUSE}
