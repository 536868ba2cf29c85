"""What a query may be, told before there is a memory to ask."""

import pickle

import pytest
from PIL import Image

from gcr_core.errors import InputError
from gcr_core.retrieval.query import SearchRequest

PICTURE = Image.linear_gradient("L")


@pytest.mark.parametrize("value", [0, -1, 10**9, 2.5, "10", None, True])
@pytest.mark.parametrize(("name", "limit"), [("top", "100"), ("beams", "1,000")])
@pytest.mark.parametrize("query", ["gold", PICTURE])
def test_top_and_beams_outside_their_limits_are_named_errors(
    query: object, name: str, limit: str, value: object
) -> None:
    with pytest.raises(InputError, match=rf"{name} is {value!r}, the limits are 1 and {limit}"):
        SearchRequest(query, **{name: value})


@pytest.mark.parametrize("query", ["", " ", "\n\t\r", "\0\x07", "\u200b\u200d", "\u2028"])
def test_a_blank_query_is_a_named_error(query: str) -> None:
    with pytest.raises(InputError, match="blank"):
        SearchRequest(query)


def test_a_query_over_the_limit_names_length_and_limit() -> None:
    with pytest.raises(InputError, match="100,000 characters, the limit is 1,000: shorten it"):
        SearchRequest("x" * 100_000)


@pytest.mark.parametrize("query", [None, 5, ["dog"], b"dog"])
def test_what_is_no_text_is_a_named_error(query: object) -> None:
    with pytest.raises(InputError, match="not text"):
        SearchRequest(query)


@pytest.mark.parametrize("query", ["a\0happy\x1bdog", "  a  happy\ndog ", "a\ud83dhappy\u2029dog"])
def test_control_characters_count_as_spaces(query: str) -> None:
    assert SearchRequest(query).query == "a happy dog"


@pytest.mark.parametrize("query", ["a happy dog", PICTURE])
def test_a_request_arrives_in_another_process_as_it_was_made(query: str | Image.Image) -> None:
    request = SearchRequest(query, top=3, beams=5, trace=True)
    assert pickle.loads(pickle.dumps(request)) == request


def test_an_album_is_tidied_and_checked_as_where_it_was_named() -> None:
    assert SearchRequest("gold", album=" lake \n summer").album == "lake summer"
    with pytest.raises(InputError, match="an album of 201 characters, the limit is 200"):
        SearchRequest("gold", album="x" * 201)
    with pytest.raises(InputError, match="an album that is no text"):
        SearchRequest("gold", album=None)
