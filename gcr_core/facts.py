"""What a memory says about itself: `memory.json`, and the model card written from it. Loads no model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .atomic import write_text
from .errors import MemoryFormatError

SHOWN_CHARACTERS = 200
FORMAT_VERSION = 1
FACTS_FILE = "memory.json"


def read_facts(folder: str | Path) -> dict[str, Any]:
    """The facts of the memory in a folder. Raises MemoryFormatError for none, or another format version."""
    path = Path(folder) / FACTS_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MemoryFormatError(
            f"{str(folder)!r} is no memory, it has no {FACTS_FILE}: name a memory, such as checkpoints/emoji"
        ) from error
    except (OSError, ValueError) as error:
        raise MemoryFormatError(f"{path} cannot be read ({error}): memorise the gallery anew") from error
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if version != FORMAT_VERSION:
        raise MemoryFormatError(
            f"{str(folder)!r} has memory format {version!r}, this version reads {FORMAT_VERSION}: "
            "use the gcr_core that wrote it, or memorise the gallery anew"
        )
    return facts


def check_target(path: Path) -> None:
    """Raises MemoryFormatError for a path that holds something other than a memory, where none may be written."""
    if path.exists() and not (path / FACTS_FILE).is_file() and (path.is_file() or any(path.iterdir())):
        raise MemoryFormatError(f"{str(path)!r} holds something other than a memory: name another folder")


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Writes `memory.json` and the model card `README.md` into a folder."""
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / FACTS_FILE, text)
    write_text(folder / "README.md", model_card(facts))


def flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) lines for a person: nested facts are named `outer.inner`, a long value is cut."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + name, text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def model_card(facts: dict[str, Any]) -> str:
    """The memory's README.md: the hub's front matter, what it is, how it is used, its facts."""
    rows = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in flat(facts))
    return f"""---
library_name: gcr-core
pipeline_tag: image-text-to-text
tags:
- generative-retrieval
- cross-modal-retrieval
---

# A memory of {facts["images"]:,} images

A multimodal language model that has memorised the images of one gallery and recalls them for a text query by
generating their identifiers. Beside it: the gallery's thumbnails and a CLIP + FAISS index of the same images.

```python
from gcr_core import Memory

memory = Memory.from_pretrained("path/or/hub-id")
memory.search("a happy dog")["generative"]
```

It recalls images of its own gallery only, and it always recalls something: the score says how sure it is.

| fact | value |
| --- | --- |
{rows}
"""


def _cell(text: str) -> str:
    """Text that is safe inside a Markdown table."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
