"""The examples in docs/api.md that ask an app, run as they stand there, against one with the tiny memory."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from gcr_core.ui import take_along
from tests.serving import ROOT

ADDRESS = "http://127.0.0.1:7860"
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture
def example(app_address):
    """The example in a language, for the app of these tests."""

    def example_(language):
        (code,) = (code for code in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if ADDRESS in code)
        return code.replace(ADDRESS, app_address.rstrip("/"))

    return example_


@pytest.fixture
def expected(tiny_memory):
    return [hit["file_name"] for hit in tiny_memory.search("a happy dog", top=3)["generative"]]


def printed(*command):
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_curl_example_prints_the_answer(example, expected):
    assert shutil.which("curl"), "this test runs curl: install the package 'curl'"
    told = printed("bash", "-c", example("bash"))
    (answer,) = json.loads(told.split("event: complete\ndata: ")[1])
    assert [hit["file_name"] for hit in answer["generative"]] == expected
    assert answer.keys() == {"query", "generative", "dense", "latency_ms"}


def test_the_python_example_prints_the_answer(example, expected):
    lines = printed(sys.executable, "-c", example("python")).splitlines()
    assert [line.split()[:2] for line in lines if line.endswith(tuple("0123456789"))] == [
        [str(rank), name] for rank, name in enumerate(expected, start=1)
    ]


def test_the_javascript_example_prints_the_answer(example, expected, page):
    with page.expect_console_message(lambda message: expected[0] in message.text) as told:
        page.evaluate(f"async () => {{ {example('javascript')} }}")
    assert told.value.args[0].json_value() == expected


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_the_programs_of_an_answer_print_it_too(language, app_address, expected, page):
    programs = take_along.programs_for({"query": "a happy dog", "top": 3, "beams": 10})
    program = programs[language].replace(take_along.ADDRESS, app_address.rstrip("/"))
    if language == "JavaScript":
        with page.expect_console_message(lambda message: expected[0] in message.text) as told:
            page.evaluate(f"async () => {{ {program} }}")
        assert told.value.args[0].json_value() == expected
        return
    words = printed(*(["bash"] if language == "curl" else [sys.executable]), "-c", program)
    places = [words.index(name) for name in expected]
    assert places == sorted(places)


def test_the_address_of_the_mcp_server_is_the_one_in_the_page():
    assert f"{ADDRESS}/gradio_api/mcp/" in PAGE
    assert "GRADIO_MCP_SERVER=True" in PAGE
