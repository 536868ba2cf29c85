"""Tables: what commands print for people, of the answers that programs get as JSON."""

from itertools import zip_longest
from typing import Any

from gcr_core.data.gallery import Gallery

COLUMN_WIDTH = 58
"""The most characters of a column."""


def recall(answer: dict[str, Any], gallery: Gallery) -> str:
    """Both engines' images side by side: rank, file name, score, first caption."""
    titles = {"generative": "recalled from memory (log p)", "dense": "CLIP + FAISS (cosine)"}
    columns = []
    for engine, title in titles.items():
        lines = [f"{title}, {answer['latency_ms'][engine]:.0f} ms"]
        if engine in (match := answer.get("match", {})):
            lines[0] += f", match {match[engine]:.0%}"
        for hit in answer[engine]:
            caption = next(iter(gallery.captions[gallery.index(hit["file_name"])]), "")
            lines.append(f"{hit['rank']:>3}  {hit['score']:>7.3f}  {hit['file_name']}  {caption}")
        columns.append([line[:COLUMN_WIDTH] for line in lines])
    rows = zip_longest(*columns, fillvalue="")
    return "\n".join(f"{left:<{COLUMN_WIDTH}}  {right}".rstrip() for left, right in rows)


def memorize(answer: dict[str, Any], report: dict[str, Any], gallery: Gallery) -> str:
    """What was memorised, how well, what was skipped, what to know."""
    lines = [f"{answer['memory']}: {answer['images']:,} images memorised in {answer['seconds']:,.0f} s"]
    lines.append(f"recalled at rank 1 from their own picture: {answer['memorized']:.1%}")
    if answer["retrieved"] is not None:
        lines.append(f"recalled at rank 1 from a caption kept out of training: {answer['retrieved']:.1%}")
    if report["pseudo_queries"]:
        lines.append(f"captions: {report['captions']:,}, {report['pseudo_queries']:,} of them written by the model")
    lines += [f"skipped {name}: {reason}" for name, reason in gallery.skipped]
    lines += [f"note: {name} {remark}" for name, remark in gallery.notes]
    return "\n".join([*lines, *report["remarks"]])


def evaluate(answer: dict[str, Any]) -> str:
    """Figures of both sides with their intervals, and whether the sides differ."""
    lines = [f"{answer['queries']:,} queries, {answer['images']:,} images; in brackets 95 % intervals"]
    sides = [side for side in ("generative", "dense", "reranked", "together") if side in answer]
    lines.append(f"{'':18}" + "".join(f"{side:>26}" for side in sides))
    for name in answer["generative"]:
        cells = []
        for engine in sides:
            interval = answer["intervals"][engine].get(name)
            words = f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
            cells.append(f"{_number(answer[engine][name]) + words:>26}")
        lines.append(f"{name:<18}{''.join(cells)}")
    for name in answer.get("no_match", {}).get("generative", {}):
        left, right = (_number(answer["no_match"][engine][name]) for engine in ("generative", "dense"))
        lines.append(f"{'no match, ' + name:<18}{left:>26}{right:>26}")
    paired = answer["paired"]
    lines.append(
        f"right at rank 1: {paired['both']:,} by both, {paired['generative_only']:,} by the generative side alone, "
        f"{paired['dense_only']:,} by the dense one alone, {paired['neither']:,} by neither; McNemar's exact test: "
        f"p = {paired['p']:.2g}"
    )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
