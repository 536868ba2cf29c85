"""Evaluate view: what came of an evaluation, as HTML: figures, plots, the queries that a side missed.

Functions from an evaluation to a string. Text from outside goes through `html.text`.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import numpy as np

from gcr_core.evaluation.evaluate import CUTOFFS, DEPTH, ENGINES
from gcr_core.ui import plots
from gcr_core.ui.evaluations import Evaluation, Subject
from gcr_core.ui.html import ShownGallery, count, duration, is_share, text, without_paths
from gcr_core.ui.registry import SHIPPED
from gcr_core.ui.search_view import SIDES, TOGETHER, is_small, ordinal

NAMES = {"generative": "from memory", "dense": "by CLIP"}
HEADED = {side: heading for side, (heading, _) in SIDES.items()} | {"reranked": "Reranked", "together": TOGETHER}
"""The columns of the table, of which a memory may lack the last two."""
FIGURES = {
    "recall@1": "right one first",
    "recall@5": "among the first 5",
    "recall@10": "among the first 10",
    "mrr@10": "mean reciprocal rank",
    "latency_ms_p50": "median of a query",
    "latency_ms_p95": "95th percentile",
}
"""Figure → what it is, in words."""
LABELS = {"mrr@10": "MRR@10", "latency_ms_p50": "Time", "latency_ms_p95": "Time"}
"""The names of those figures that are not written as they are."""
NO_MATCH = {
    "auroc": "what is there told from what is not",
    "fpr@95": "of what is not there, taken to be there",
    "aurc": "mean share wrong of the surest",
    "ece": "how far sureness is from being right",
}
"""The same of figures on queries that nothing answers."""
MISSED = {
    "generative": "missed from memory",
    "dense": "missed by CLIP",
    "both": "missed by both",
    "generative-only": "missed from memory, found by CLIP",
    "dense-only": "missed by CLIP, found from memory",
}
"""Which misses can be chosen, in words."""
MISSES = 12
"""How many misses are shown at a time."""
CHANCE = 0.05
"""The p below which two sides are said to differ."""


def progress(evaluation: Evaluation) -> str:
    """How far it is, and how the first figures look."""
    done, total, left = evaluation.done, evaluation.total, evaluation.seconds_left
    now = next((each for each in evaluation.tested if len(each.asked) < len(each.queries)), evaluation.tested[-1])
    of = f" of “{now.name}”" if len(evaluation.tested) > 1 else ""
    words = "Stopping…" if evaluation.stops else f"Asking both sides{of}…" if done else "Waking the memory…"
    facts = [f"query {done:,} of {total:,}"] + ([f"{duration(left)} left"] if left is not None else [])
    if len(outcomes := now.outcomes):
        first = {side: float((outcomes[side]["rank"] == 1).mean()) for side in ENGINES}
        facts += [f"{_percent(first[side])} right first {NAMES[side]}" for side in ENGINES]
    return (
        f'<p class="now" role="status">{text(words)}</p>'
        f'<progress max="{total}" value="{done}" aria-label="queries"></progress>'
        f'<p class="facts">{"".join(f"<span>{text(fact)}</span>" for fact in facts)}</p>'
        '<p class="does"><button type="button" data-does="stop">Stop</button></p>'
    )


def results(evaluation: Evaluation) -> str:
    """All that can be seen of one that has ended, but for its misses."""
    tested = [each for each in evaluation.tested if each.asked]
    note = _note(evaluation)
    if not tested:
        return note
    figures = [each.figures for each in tested]
    head = (
        f'<header class="asked-for"><h2>{text(evaluation.source)}</h2>'
        '<p class="files"><a class="button" download="evaluation.json" href="evaluation/results.json">Save as JSON</a>'
        '<a class="button" download="evaluation.csv" href="evaluation/results.csv">Save as CSV</a></p></header>'
    )
    several = len(tested) > 1
    both = zip(tested, figures, strict=True)
    said = "".join(_said(each, found, several) + _learnt(each, several) for each, found in both)
    return (
        f'<section class="evaluated" aria-label="Results">{head}{note}{said}'
        f"{_table(tested, figures)}{_plots(tested, figures)}{_misses_frame(tested)}</section>"
    )


def misses(tested: Subject, shown: ShownGallery, kind: str, start: int = 0) -> tuple[str, int]:
    """(some queries whose right picture was not first, as cards; how many there are in all), by a key of MISSED."""
    found = np.flatnonzero(_missed(tested.outcomes, kind)).tolist()
    return "".join(_card(tested, shown, place) for place in found[start : start + MISSES]), len(found)


def _missed(outcomes: np.ndarray, kind: str) -> np.ndarray:
    """(n,) bool: which queries are misses of a kind; one that nothing answers is none."""
    generative, dense = (outcomes[side]["rank"] != 1 for side in ENGINES)
    wanted = {
        "generative": generative,
        "dense": dense,
        "both": generative & dense,
        "generative-only": generative & ~dense,
        "dense-only": dense & ~generative,
    }
    return wanted[kind] & ~outcomes["absent"]


def _note(evaluation: Evaluation) -> str:
    """What there is to know of how it went, where not all was asked."""
    failed = [asked for each in evaluation.tested for asked in each.asked if asked.mistake]
    done = f"{evaluation.done:,} of {evaluation.total:,} queries"
    notes = []
    if evaluation.state == "stopped":
        notes.append(f"Stopped after {done}: the figures are of these.")
    if evaluation.state == "failed":
        notes.append(f"It broke off after {done}: {without_paths(evaluation.mistake)}")
    if failed:
        notes.append(f"Not asked, and counted as missed: {len(failed):,}, such as this: {failed[0].mistake}")
    return "".join(f'<p class="note warning">{text(note)}</p>' for note in notes)


def _said(tested: Subject, found: dict[str, Any], named: bool) -> str:
    """The outcome in sentences, for who reads no table."""
    paired = found["paired"]
    total = sum(paired[key] for key in ("both", "generative_only", "dense_only", "neither"))
    if not total:
        return ""
    rates = " and ".join(f'<b class="{side}">{_percent(found[side]["recall@1"])} {NAMES[side]}</b>' for side in ENGINES)
    alone = (paired["generative_only"], paired["dense_only"])
    p = "p < 0.0001" if paired["p"] < 0.0001 else f"p = {paired['p']:.2g}"
    p = p.replace(" ", "\N{NO-BREAK SPACE}")
    if alone[0] == alone[1]:
        verdict = "Neither side is ahead"
    else:
        ahead = "The memory is" if alone[0] > alone[1] else "CLIP is"
        verdict = f"{ahead} ahead, by more than chance" if paired["p"] < CHANCE else f"{ahead} ahead, perhaps by chance"
    name = f"<b>{text(tested.name)}</b>: the" if named else "The"
    return (
        f'<p class="verdict">{name} right picture came first for {rates}. {verdict}: of {total:,} queries '
        f"{alone[0]:,} were right from memory alone, {alone[1]:,} by CLIP alone, {paired['both']:,} by both and "
        f"{paired['neither']:,} by neither <small>(McNemar’s exact test, {p})</small>.</p>"
    )


def _learnt(tested: Subject, named: bool) -> str:
    """How many of the queries are captions that both sides have learnt, and what is known of those kept out."""
    gallery, total = tested.memory.gallery, len(tested.asked)
    both = zip(gallery.captions, gallery.pseudo_queries, strict=True)
    known = {caption for captions, written in both for caption in captions if caption not in written}
    learnt = sum(query.text in known for query in tested.queries[:total])
    if not learnt:
        return ""
    name = f"“{tested.name}”: " if named else ""
    which = f"{learnt:,} of the {total:,} queries" if learnt < total else f"all {total:,}" if total > 1 else "the query"
    words = (
        f"{which} {'are captions' if total > 1 else 'is a caption'} that both sides have learnt, new words are harder."
    )
    report = tested.memory.facts.get("training")
    report = report if isinstance(report, dict) else {}
    dense = report.get("dense")
    shares = report.get("retrieved"), dense.get("retrieved") if isinstance(dense, dict) else None
    if isinstance(report.get("held_out"), int) and all(map(is_share, shares)):
        words += (
            f" Of {count(report['held_out'], 'caption')} kept out of the training until both had been asked, "
            f"{_percent(shares[0])} had their picture first {NAMES['generative']} and {_percent(shares[1])} "
            f"{NAMES['dense']}."
        )
    words = name + words if named else words[0].upper() + words[1:]
    return f'<p class="note learnt">{text(words)}</p>'


def _table(tested: list[Subject], figures: list[dict[str, Any]]) -> str:
    sides_of = [[side for side in HEADED if side in found] for found in figures]
    both = zip(tested, sides_of, strict=True)
    over = "".join(f'<th colspan="{len(sides)}" scope="colgroup">{text(each.name)}</th>' for each, sides in both)
    groups = f"<tr><td></td>{over}</tr>" if len(tested) > 1 else ""
    heads = "".join(f'<th scope="col" class="{side}">{HEADED[side]}</th>' for sides in sides_of for side in sides)
    rows = "".join(
        f'<tr><th scope="row">{LABELS.get(figure, figure.capitalize())}<small>{words}</small></th>'
        + "".join(
            f"<td>{_value(figure, found[side][figure])}{_interval(figure, found['intervals'][side].get(figure))}</td>"
            for found, sides in zip(figures, sides_of, strict=True)
            for side in sides
        )
        + "</tr>"
        for figure, words in FIGURES.items()
    )
    for figure, words in NO_MATCH.items():
        if any(figure in found.get("no_match", {}).get("generative", {}) for found in figures):
            cells = (
                found.get("no_match", {}).get(side, {}).get(figure)
                for found, sides in zip(figures, sides_of, strict=True)
                for side in sides
            )
            values = "".join(f"<td>{'–' if value is None else f'{value:.3f}'}</td>" for value in cells)
            rows += f'<tr><th scope="row">{figure.upper()}<small>{words}</small></th>{values}</tr>'
    reordered = ""
    if any("together" in sides for sides in sides_of):
        reordered = " What is recalled is reranked by the words of the captions, and together with CLIP."
    return (
        '<div class="wide" tabindex="0" role="group" aria-label="Figures"><table class="figures">'
        f"<thead>{groups}<tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="hint">In small, 95 % intervals: Wilson’s for shares, bootstrap for the mean reciprocal rank. '
        f"Both sides give {DEPTH} pictures.{reordered}</p>"
    )


def _value(figure: str, value: float | None) -> str:
    if value is None:
        return "–"
    if figure.startswith("latency"):
        return f"{value:.0f} ms"
    return f"{value:.3f}" if figure == "mrr@10" else _percent(value)


def _interval(figure: str, interval: list[float] | None) -> str:
    if interval is None:
        return ""
    low, high = interval
    words = f"{low:.3f}–{high:.3f}" if figure == "mrr@10" else f"{100 * low:.1f}–{100 * high:.1f} %"
    return f"<small>{words}</small>"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _plots(tested: list[Subject], figures: list[dict[str, Any]]) -> str:
    drawn = [_recall(tested, figures), _risk(tested, figures), _reliability(tested, figures)]
    return f'<div class="plots">{"".join(drawn)}</div>'


def _curves(tested: list[Subject], figures: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(name, classes, side, figures) of each line that a plot has."""
    for place, (each, found) in enumerate(zip(tested, figures, strict=True)):
        for side in ENGINES:
            name = SIDES[side][0] + (f", {each.name}" if len(tested) > 1 else "")
            yield name, f"{side} of-{place}", side, found


def _recall(tested: list[Subject], figures: list[dict[str, Any]]) -> str:
    lines = []
    for name, look, side, found in _curves(tested, figures):
        intervals = found["intervals"][side]
        bars: dict[float, plots.Point] = {k: tuple(intervals[f"recall@{k}"]) for k in CUTOFFS}
        points = list(enumerate(found["curves"][side]["recall"], start=1))
        lines.append(plots.Curve(name, look, points, bars))
    shares = [recall for line in lines for _, recall in line.points]
    shares += [end for line in lines for bar in line.bars.values() for end in bar]
    says = "How often a right picture is among the first k. Bars are 95\N{NO-BREAK SPACE}% intervals."
    up = plots.shares("recall", shares)
    return plots.plot("plot-recall", "Recall against k", says, plots.whole_numbers("k", DEPTH), up, lines)


def _risk(tested: list[Subject], figures: list[dict[str, Any]]) -> str:
    lines = [
        plots.Curve(name, look, found["curves"][side]["risk_coverage"])
        for name, look, side, found in _curves(tested, figures)
    ]
    says = "Where only the surest answers are given, how many of these are wrong: lower is better."
    up = plots.shares("wrong", [0, *(wrong for line in lines for _, wrong in line.points)])
    return plots.plot("plot-risk", "Risk against coverage", says, plots.shares("answers given", [0, 1]), up, lines)


def _reliability(tested: list[Subject], figures: list[dict[str, Any]]) -> str:
    lines = []
    for name, look, side, found in _curves(tested, figures):
        if rows := found["curves"][side]["reliability"]:
            points = [(sure, right) for sure, right, _ in rows]
            lines.append(plots.Curve(name, look, points, sizes=[number for *_, number in rows]))
    says = "How often answers are right that were said to be so probable. On the dotted line sureness is deserved."
    across, up = plots.shares("said to be probable", [0, 1]), plots.shares("right", [0, 1])
    return plots.plot("plot-reliability", "Reliability", says, across, up, lines, diagonal=True)


def _misses_frame(tested: list[Subject]) -> str:
    """Where the misses of a memory are shown; the browser asks for them."""
    kinds = "".join(f'<option value="{kind}">{words}</option>' for kind, words in MISSED.items())
    names = "".join(f'<option value="{place}">{text(each.name)}</option>' for place, each in enumerate(tested))
    memory = "" if len(tested) > 1 else " hidden"
    return (
        '<section class="misses" aria-label="Misses"><h3>What was missed</h3><p class="tools">'
        f'<label class="choose"{memory}><span>Memory</span><select data-part="tested">{names}</select></label>'
        f'<label class="choose"><span>Show</span><select data-part="kind">{kinds}</select></label>'
        '<span role="status" data-part="many"></span></p>'
        '<p class="hint">The right picture, and what each side had first. The query asks it anew in Search.</p>'
        '<ol class="missed" data-part="misses"></ol><p class="does">'
        '<button type="button" data-does="more" data-part="more" hidden>Show more</button></p></section>'
    )


def _card(tested: Subject, shown: ShownGallery, place: int) -> str:
    query, asked = tested.queries[place], tested.asked[place]
    words = query.text or ""
    link = urlencode({"q": words} if tested.id == SHIPPED else {"memory": tested.id, "q": words})
    expected = min(query.relevant)
    more = f" and {len(query.relevant) - 1:,} more" if len(query.relevant) > 1 else ""
    pictures = _picture(shown, expected, f"the right one{more}", "right")
    for side in ENGINES:
        rank = int(asked.outcome[side]["rank"])
        lies = "right" if rank == 1 else f"right one {ordinal(rank)}" if rank else f"not in {DEPTH}"
        pictures += _picture(shown, asked.first.get(side, ""), f"{NAMES[side]}: {lies}", side)
    return (
        f'<li><a href="?{text(link)}" data-asks="{text(words)}" data-memory="{text(tested.id)}">{text(words)}</a>'
        f'<div class="three" data-memory="{text(tested.id)}" data-pictures="“{text(words)}”">{pictures}</div></li>'
    )


def _picture(shown: ShownGallery, file_name: str, words: str, look: str) -> str:
    """One picture of a miss and what it is; an empty plate for one that there is not."""
    picture = '<span class="picture"></span>'
    if file_name in shown.gallery:
        index = shown.gallery.index(file_name)
        name, kind = text(shown.name(index)), " whole" * is_small(shown, index)
        picture = (
            f'<button type="button" class="picture{kind}" data-picture="{index}">'
            f'<img src="{shown.url(index)}" alt="{name}" title="{name}" loading="lazy"></button>'
        )
    return f'<figure class="{look}">{picture}<figcaption>{text(words)}</figcaption></figure>'
