"""Gallery tab: everything in the chosen memory, to be looked through and mended.

The server renders its frame once; gallery.js fills it with what `gallery_routes` sends.
"""

from gcr_core.ui.gradio_import import gr
from gcr_core.ui.search_tab import SCRIPT, SearchTab

SCRIPTS = SCRIPT + '<script src="grid.js"></script><script src="gallery.js"></script>'
OPEN = "() => { window.galleryTab?.open() }"
ONLY = {
    "": "all pictures",
    "captioned": "with captions",
    "bare": "without captions",
    "written": "written by the model",
    "added": "added since training",
}
"""What the pictures can be restricted to: the value that gallery.js knows → words."""
ORDERS = {"imported": "as imported", "name": "by name", "album": "by album", "newest": "newest first"}


def build(tab: gr.Tab, search: SearchTab) -> None:
    """Lays the tab out in its place of the page."""
    gr.HTML(
        _frame(),
        apply_default_css=False,
        elem_id="pictures",
        head=SCRIPTS,
        js_on_load="galleryTab.begin(element)",
    )
    for event in (tab.select, search.chosen.change):
        event(None, None, None, js=OPEN, api_visibility="private", show_progress="hidden")


def _frame() -> str:
    return (
        '<div class="browse"><div class="tools">'
        '<label class="choose" hidden><span>Memory</span><select data-part="memory"></select></label>'
        '<label class="choose" hidden><span>Album</span><select data-part="album"></select></label>'
        '<label class="choose find"><span class="sr">Find</span><input type="search" data-part="find" '
        'placeholder="Words of a caption or file name" spellcheck="false" autocapitalize="none"></label>'
        f"{_select('Show', 'only', ONLY)}{_select('Order', 'order', ORDERS)}</div>"
        '<p class="note" data-part="fixed" hidden></p>'
        '<div class="count"><p role="status" data-part="count"></p>'
        '<button type="button" class="quiet" data-does="all" data-part="all" hidden>Select all shown</button></div>'
        '<p class="empty" data-part="empty" hidden>No picture matches. '
        '<button type="button" data-does="everything">Show all</button></p>'
        '<div class="grid" role="grid" aria-label="Pictures" aria-multiselectable="true" data-part="grid"></div>'
        '<div class="bar" role="toolbar" aria-label="Selected pictures" data-part="bar" hidden>'
        '<p role="status" data-part="chosen"></p>'
        '<button type="button" data-does="caption">Edit captions</button>'
        '<button type="button" data-does="move">Move<span class="more"> to album</span></button>'
        '<button type="button" data-does="forget">Forget</button>'
        '<button type="button" class="quiet" data-does="none">Clear</button></div></div>'
    )


def _select(label: str, part: str, options: dict[str, str]) -> str:
    rows = "".join(f'<option value="{value}">{words}</option>' for value, words in options.items())
    return f'<label class="choose"><span>{label}</span><select data-part="{part}">{rows}</select></label>'
