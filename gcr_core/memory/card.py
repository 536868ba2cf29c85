"""Card: a memory's model card, its README.md, and a manifest as lines for a person. Loads no model."""

import json
from collections.abc import Iterator
from typing import Any

from gcr_core.files.hub import CHECKPOINTS

SHOWN_CHARACTERS = 200
"""The most characters of a value that are shown."""


def flat(manifest: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) lines for a person: nested ones are named `outer.inner`, long values are cut."""
    for name, value in manifest.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + name, text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def model_card(manifest: dict[str, Any], repository: str = "path/or/hub-id", adapter: bool = False) -> str:
    """The memory's README.md: the hub's front matter, what it is, how it is used, what was measured, its manifest.

    `repository`: where it is loaded from. `adapter`: it holds an adapter of its backbone, not a whole model.
    """
    from huggingface_hub import ModelCardData

    backbone = manifest.get("backbone") or {}
    from_hub = bool(backbone.get("revision")) and not str(backbone.get("name")).startswith(f"{CHECKPOINTS}/")
    front = ModelCardData(
        license=manifest.get("license", "unknown"),
        library_name="gcr-core",
        pipeline_tag="image-text-to-text",
        tags=["generative-retrieval", "cross-modal-retrieval", "image-search"],
        base_model=backbone["name"] if from_hub else None,
        base_model_relation=("adapter" if adapter else "finetune") if from_hub else None,
    )
    rows = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in flat(manifest))
    name = f"{_cell(manifest['name'])}: a" if manifest.get("name") else "A"
    return f"""---
{front.to_yaml()}
---

# {name} memory of {manifest["images"]:,} images

A multimodal language model that has memorised the images of one gallery and recalls them for a text query by
generating their identifiers. Beside it: {_kept(manifest)}, and a CLIP + FAISS index of the same images.

```python
from gcr_core import Memory

memory = Memory.from_pretrained("{repository}")
memory.search("a happy dog")["generative"]
```

It recalls images of its own gallery only, and it always recalls something: the score says how sure it is. Its weights,
its vectors and its identifiers were made from the gallery's pictures and captions, whoever may see those.

## Captions

{_captions(manifest)}

## Measured

{_measured(manifest.get("training", {}))}

## Facts

| fact | value |
| --- | --- |
{rows}
"""


def _kept(manifest: dict[str, Any]) -> str:
    if manifest.get("pictures_left_out"):
        return "the gallery's file names and captions, without its pictures"
    return "the gallery's pictures and their thumbnails"


def _captions(manifest: dict[str, Any]) -> str:
    captions, written = manifest.get("captions", 0), manifest.get("pseudo_queries", 0)
    if not captions:
        return "The images have no captions: their own pictures recall them, and words for what is seen in them."
    if not written:
        return f"{captions:,}, none of them written by a model here."
    return (
        f"{captions:,}, of which the backbone wrote {written:,} itself (pseudo-queries; `metadata.jsonl` says which). "
        "None of those counts below as words of a person."
    )


def _measured(training: dict[str, Any]) -> str:
    """What the making measured of both engines, as a table."""
    dense = training.get("dense") or {}
    held_out = training.get("held_out") or 0
    lines = {
        "memorized": "images at rank 1, asked with their own picture",
        "trained_captions": "captions with an image of theirs at rank 1, of those trained on",
        "trained_pseudo_queries": "pseudo-queries with an image of theirs at rank 1, of those trained on",
        "retrieved": f"captions with their image at rank 1, of {held_out:,} that were kept out of training until then",
    }
    rows = [
        f"| {words} | {_share(training[key])} | {_share(dense.get(key))} |"
        for key, words in lines.items()
        if training.get(key) is not None
    ]
    if not rows:
        return "Nothing, when it was made."
    return "\n".join(["| share of | recalled from memory | CLIP + FAISS |", "| --- | --- | --- |", *rows])


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _cell(text: str) -> str:
    """Text that is safe inside a Markdown table."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
