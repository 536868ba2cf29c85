"""What a query may be, told before there is a memory to ask."""

import pickle

import pytest
from PIL import Image

from gcr_core.errors import InputError
from gcr_core.query import MAX_QUERY_CHARACTERS, SearchRequest


@pytest.mark.parametrize(
    ("query", "limits", "message"),
    [
        (" \n", {}, "the query is blank"),
        ("x" * (MAX_QUERY_CHARACTERS + 1), {}, "the query has 1,001 characters, the limit is 1,000: shorten it"),
        (5, {}, "the query is int, not text"),
        ("gold", {"top": 101}, "top is 101, the limits are 1 and 100"),
        (Image.new("RGB", (8, 8)), {"beams": 0}, "beams is 0, the limits are 1 and 1,000"),
    ],
)
def test_a_request_that_cannot_be_answered_is_a_named_error(query: object, limits: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchRequest(query, **limits)


@pytest.mark.parametrize("query", ["  a\thappy dog", Image.linear_gradient("L")])
def test_a_request_arrives_in_another_process_as_it_was_made(query: str | Image.Image) -> None:
    request = SearchRequest(query, top=3, beams=5, trace=True)
    assert request.query == ("a happy dog" if isinstance(query, str) else query)
    assert pickle.loads(pickle.dumps(request)) == request
