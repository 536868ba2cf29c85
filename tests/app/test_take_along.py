"""What can be taken along of an answer: files that hold it, programs that ask for it."""

import ast
import csv
import html as entities
import io
import json
import re
import shlex
from urllib.parse import unquote

import pytest

from gcr_core.ui import take_along

ANSWER = {
    "query": "a “dog”, or two",
    "generative": [{"rank": 1, "file_name": "a, b.png", "score": -0.5, "identifier": "<img_0>"}],
    "dense": [{"rank": 1, "file_name": "ü\n.png", "score": 0.25}],
    "latency_ms": {"generative": 1.5, "dense": 0.5},
    "match": {"generative": 0.75},
}
HOSTILE = """it's a "dog" $(reboot) `ls` \\ ' "" <b>"""


def files(page):
    """File name → what is saved under it."""
    links = re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]*)"', page)
    return {entities.unescape(name): unquote(content) for name, content in links}


def test_the_answer_is_saved_as_json_and_csv_without_its_trace():
    saved = files(take_along.take_along({**ANSWER, "trace": [[]]}, {"query": ANSWER["query"]}))
    assert json.loads(saved["a-dog-or-two.json"]) == ANSWER
    assert list(csv.DictReader(io.StringIO(saved["a-dog-or-two.csv"], newline=""))) == [
        {
            "side": "generative",
            "rank": "1",
            "file_name": "a, b.png",
            "score": "-0.5",
            "identifier": "<img_0>",
            "match": "0.75",
        },
        {"side": "dense", "rank": "1", "file_name": "ü\n.png", "score": "0.25", "identifier": "", "match": ""},
    ]


def test_only_the_first_image_of_a_side_has_a_match():
    hits = [{"rank": rank, "file_name": "a.png", "score": 0.5} for rank in (1, 2)]
    rows = csv.DictReader(
        io.StringIO(take_along.table({**ANSWER, "dense": hits, "match": {"dense": 0.25}}), newline="")
    )
    assert [row["match"] for row in rows] == ["", "0.25", ""]


def test_an_answer_without_match_is_a_table_without_any():
    answer = {key: value for key, value in ANSWER.items() if key != "match"}
    assert [row["match"] for row in csv.DictReader(io.StringIO(take_along.table(answer), newline=""))] == ["", ""]


@pytest.mark.parametrize("query", ["../../etc/passwd", "…", "x" * 1000])
def test_a_query_makes_a_file_name_that_leads_nowhere(query):
    for name in files(take_along.take_along(ANSWER, {"query": query})):
        assert re.fullmatch(r"[\w-]{1,40}\.(json|csv)", name)


def test_for_a_picture_there_are_files_and_no_programs():
    page = take_along.take_along({**ANSWER, "query": None}, {"query": None, "top": 3})
    assert files(page).keys() == {"your-picture.json", "your-picture.csv"}
    assert "<pre" not in page


def test_the_programs_ask_with_the_same_arguments_whatever_the_query_is():
    asked = {"query": HOSTILE, "top": 20, "beams": 20, "memory": "AAAAAAAAAAAA"}
    programs = take_along.programs_for(asked)
    curl = shlex.split(programs["curl"].splitlines()[1].removeprefix("id=$(").split(" | ")[0])
    assert json.loads(curl[curl.index("--json") + 1]) == asked
    calls = (node for node in ast.walk(ast.parse(programs["Python"])) if isinstance(node, ast.Call))
    [call] = (call for call in calls if call.args and call.keywords)
    assert ast.literal_eval(call.args[0]) == HOSTILE
    assert {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords} == {
        name: value for name, value in asked.items() if name != "query"
    } | {"api_name": "/search"}
    body = re.search(r"JSON\.stringify\((.*)\);", programs["JavaScript"])[1]
    assert json.loads(body) == asked


def test_programs_are_escaped_in_the_page():
    assert "<b>" not in take_along.take_along(ANSWER, {"query": HOSTILE})
