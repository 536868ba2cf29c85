"""Gradio, imported in half the time: the modules of the web app take `gr` from here.

While it is imported, Gradio compares the source of each of its components with a .pyi stub, for editors. It
passes over a component whose file it cannot find, so for the time of the import it finds none.

Around each call of a function Gradio asks for matplotlib, twice. Where there is none, it is noted here once that it
cannot be imported: looking through all of Python's path took a tenth of a search.
"""

import inspect
import sys
from importlib.util import find_spec
from typing import Any

__all__ = ["Api", "gr", "said"]

_getfile = inspect.getfile


def _getfile_but_not_of_gradio(object: Any) -> str:
    if getattr(object, "__module__", "").startswith("gradio."):
        raise OSError("left out while Gradio is imported")
    return _getfile(object)


inspect.getfile = _getfile_but_not_of_gradio
try:
    import gradio as gr
    from gradio.components.api_component import Api
finally:
    inspect.getfile = _getfile

if find_spec("matplotlib") is None:
    sys.modules["matplotlib"] = None  # type: ignore[assignment]


def said(event: "gr.EventData") -> dict[str, Any]:
    """What a page says of an event; nothing where it sends anything else."""
    return event._data if isinstance(event._data, dict) else {}
