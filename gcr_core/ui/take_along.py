"""Take along: an answer as files, and the query that it answers as programs would ask it, as HTML.

The files are `data:` links, so that nothing is kept on the server. The programs are the examples of docs/api.md.
"""

import csv
import io
import json
import re
import shlex
from typing import Any
from urllib.parse import quote

from gcr_core.evaluation.evaluate import LISTS
from gcr_core.ui.html import text

ADDRESS = "http://127.0.0.1:7860"
"""The app's address in the programs; the browser puts its own in its place."""
COLUMNS = ("side", "rank", "file_name", "score", "identifier", "match")
"""Of the table; the dense side has no identifiers, and only the first image of a side has a match."""
FILE_NAME_CHARACTERS = 40
"""The most characters of a query in the name of a file."""

CURL = """api=%s/gradio_api/call
id=$(curl -s $api/v2/search --json %s | cut -d '"' -f 4)
curl -s $api/search/$id"""
PYTHON = """from gradio_client import Client

answer = Client("%s").predict(%s, api_name="/search")
for hit in answer["generative"]:
    print(hit["rank"], hit["file_name"], hit["score"])"""
JAVASCRIPT = """const api = "%s/gradio_api/call";
const body = JSON.stringify(%s);
const headers = { "Content-Type": "application/json" };
const { event_id } = await (await fetch(`${api}/v2/search`, { method: "POST", headers, body })).json();
const events = await (await fetch(`${api}/search/${event_id}`)).text();
const [answer] = JSON.parse(events.split("data: ").at(-1));
console.log(answer.generative.map((hit) => hit.file_name));"""


def take_along(answer: dict[str, Any], asked: dict[str, Any]) -> str:
    """Downloads of an answer, and programs that ask for it; closed. `asked`: the arguments of `/search`, with a
    "query" in words where there was one."""
    result = {key: value for key, value in answer.items() if key != "trace"}
    name = re.sub(r"\W+", "-", asked.get("query") or "your picture").strip("-")[:FILE_NAME_CHARACTERS] or "answer"
    files = _file("JSON", f"{name}.json", "application/json", json.dumps(result, ensure_ascii=False, indent=2))
    files += _file("CSV", f"{name}.csv", "text/csv", table(result))
    programs = programs_for(asked) if asked.get("query") else {}
    more = "".join(
        f'<section class="program"><h4>{language}</h4><button type="button" data-copy aria-label="Copy the '
        f'{language} program">Copy</button><pre tabindex="0" role="group" aria-label="{language}">'
        f"<code>{text(code)}</code></pre></section>"
        for language, code in programs.items()
    )
    hint = "<p>The same query, asked by a program:</p>" if programs else ""
    return (
        '<details class="along"><summary>Take the results along <small>files and programs</small></summary>'
        f'<p class="files">{files}</p>{hint}{more}</details>'
    )


def table(answer: dict[str, Any]) -> str:
    """An answer as CSV: a row for each result of both sides, and of the new orders that it has."""
    lines = io.StringIO()
    rows = csv.DictWriter(lines, COLUMNS, restval="")
    rows.writeheader()
    for side in LISTS:
        match = answer.get("match", {}).get(side, "")
        rows.writerows(
            {"side": side, **hit, "match": match if hit["rank"] == 1 else ""} for hit in answer.get(side, ())
        )
    return lines.getvalue()


def programs_for(asked: dict[str, Any]) -> dict[str, str]:
    """Language → a program that asks `/search` with these arguments, at ADDRESS."""
    body = json.dumps(asked)
    query, *others = asked.items()
    arguments = ", ".join([repr(query[1]), *(f"{name}={value!r}" for name, value in others)])
    return {
        "curl": CURL % (ADDRESS, shlex.quote(body)),
        "Python": PYTHON % (ADDRESS, arguments),
        "JavaScript": JAVASCRIPT % (ADDRESS, body),
    }


def _file(words: str, name: str, media_type: str, content: str) -> str:
    address = f"data:{media_type};charset=utf-8,{quote(content)}"
    return f'<a class="button" download="{text(name)}" href="{address}">Save as {words}</a>'
