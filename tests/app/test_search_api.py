"""The endpoint /search: the object of `recall --json`, or one clear message, and the server lives on."""

import json
import shutil
import urllib.error
import urllib.request

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from gcr_core.data.gallery import Gallery
from tests.serving import ROOT, serve
from tests.uploads import picture

QUERY = "a happy dog"
LARGE = picture((300, 200))


def search(client, *arguments, **options):
    return client.predict(*arguments, api_name="/search", **options)


@pytest.fixture(scope="module")
def album_client(tiny_memory_dir, tmp_path_factory):
    """A client to an app whose memory has its bars and its circles in albums."""
    folder = tmp_path_factory.mktemp("albums")
    shutil.copytree(tiny_memory_dir, folder / "memory")
    gallery = Gallery.load(folder / "memory" / "gallery")
    gallery.with_albums(
        ["bars" if "bar" in name else "round" if "circle" in name else "" for name in gallery.file_names]
    )
    (folder / "memory" / "originals").mkdir()
    (folder / "memory" / "originals" / gallery.file_names[0]).write_bytes(LARGE)
    with serve(folder / "memory", folder / "app.log") as address:
        client = Client(address, verbose=False)
        yield client
        client.close()


@pytest.fixture
def answers_afterwards(client):
    yield
    assert search(client, QUERY)["generative"]


def test_search_answers_with_the_object_of_recall_json(client, tiny_memory):
    answer = search(client, QUERY)
    assert answer.keys() == {"query", "generative", "dense", "latency_ms"}
    assert answer["query"] == QUERY
    assert answer["latency_ms"].keys() == {"generative", "dense"}
    for side, keys in (
        ("generative", {"rank", "file_name", "score", "identifier"}),
        ("dense", {"rank", "file_name", "score"}),
    ):
        hits = answer[side]
        assert [hit["rank"] for hit in hits] == list(range(1, min(10, len(tiny_memory.gallery)) + 1))
        assert all(hit.keys() == keys for hit in hits)
        assert {hit["file_name"] for hit in hits} <= set(tiny_memory.gallery.file_names)
        assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_search_answers_as_the_memory_itself_does(client, tiny_memory):
    answer, expected = search(client, QUERY, top=3, beams=5), tiny_memory.search(QUERY, top=3, beams=5)
    for side in ("generative", "dense"):
        assert [hit["file_name"] for hit in answer[side]] == [hit["file_name"] for hit in expected[side]]
        assert [hit["score"] for hit in answer[side]] == pytest.approx(
            [hit["score"] for hit in expected[side]], abs=1e-4
        )


def test_top_limits_both_sides_and_beams_the_generative_one(client):
    answer = search(client, QUERY, top=3, beams=2)
    assert (len(answer["generative"]), len(answer["dense"])) == (2, 3)


def test_more_results_than_images_gives_all_images(client, tiny_memory):
    images = len(tiny_memory.gallery)
    answer = search(client, QUERY, top=100, beams=1000)
    assert {hit["file_name"] for hit in answer["generative"]} == set(tiny_memory.gallery.file_names)
    assert len(answer["dense"]) == images


@pytest.mark.usefixtures("answers_afterwards")
@pytest.mark.parametrize(
    ("album", "reason"),
    [("red", "no album 'red': name one of 2, such as 'bars', 'round'"), ("x" * 201, "201 characters"), (7, "no text")],
)
def test_an_album_that_cannot_be_searched_says_which_there_are(album_client, album, reason):
    with pytest.raises(AppError, match=reason):
        search(album_client, QUERY, album=album)


def test_a_search_in_an_album_answers_with_its_images_alone(album_client):
    for top in (1, 10):
        answer = search(album_client, QUERY, top=top, album="bars")
        for side in ("generative", "dense"):
            found = [hit["file_name"] for hit in answer[side]]
            assert len(set(found)) == len(found) == min(top, 4)
            assert all(name.endswith("bar.png") for name in found)
    assert len(search(album_client, QUERY)["dense"]) == 10


@pytest.mark.usefixtures("answers_afterwards")
@pytest.mark.parametrize("blank", ["", "   ", "\t\n", "\x00\x01\x1b", "\u200b\u2060"])
def test_a_blank_query_says_so(client, blank):
    with pytest.raises(AppError, match="blank"):
        search(client, blank)


@pytest.mark.usefixtures("answers_afterwards")
def test_a_query_of_100_000_characters_names_the_limit(client):
    with pytest.raises(AppError, match=r"100,000.*1,000"):
        search(client, "a" * 100_000)


def test_control_characters_become_spaces(client):
    assert search(client, "a\x00happy\x1b\ndog\x7f")["query"] == QUERY


@pytest.mark.usefixtures("answers_afterwards")
@pytest.mark.parametrize(
    "query",
    ["ძაღლი სახლში", "ጤና ይስጥልኝ", "𓀀𓁐𓂀", "🐕", "🏳️‍🌈", "é" * 1000, "\\'\"<b>{{$}}"],
)
def test_unusual_text_gets_an_answer_or_a_message_naming_the_remedy(client, query):
    try:
        assert search(client, query)["generative"]
    except AppError as error:
        assert ":" in str(error)
        assert "Traceback" not in str(error)


@pytest.mark.usefixtures("answers_afterwards")
def posted(address, body):
    """(event, data) that /search ends with for a body of JSON, as any HTTP client sends it."""
    call = f"{address}gradio_api/call/search"
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}") as stream:
        kind, data = stream.read().decode().strip().split("\n\n")[-1].split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_half_a_surrogate_pair_in_raw_json_becomes_a_space(app_address):
    assert posted(app_address, rb'{"data": ["a happy\ud83ddog", 10, 10, ""]}')[1][0]["query"] == QUERY


@pytest.mark.parametrize("values", [[QUERY], [QUERY, 3], [QUERY, 10, 10, ""], [QUERY, 10, 10, "", ""]])
def test_a_program_may_leave_out_what_has_a_default(app_address, values):
    kind, (answer,) = posted(app_address, json.dumps({"data": values}).encode())
    assert kind == "complete" and len(answer["dense"]) == [*values, 10][1]


@pytest.mark.usefixtures("answers_afterwards")
def test_a_program_that_posts_no_query_is_told_so(app_address):
    kind, mistake = posted(app_address, b'{"data": []}')
    assert kind == "error" and "the query is NoneType, not text" in json.dumps(mistake)


@pytest.mark.usefixtures("answers_afterwards")
@pytest.mark.parametrize("name", ["top", "beams"])
@pytest.mark.parametrize("value", [0, -1, 10**9, 10**30, 2.5, "ten", None, True, [3], {"a": 1}])
def test_an_impossible_top_or_beams_is_named_with_its_limits(client, name, value):
    with pytest.raises(AppError, match=f"^{name} is .*1 and 1,?00"):
        search(client, QUERY, **{name: value})


@pytest.mark.usefixtures("answers_afterwards")
@pytest.mark.parametrize("query", [None, 7, ["a"], {"text": "a"}, True])
def test_a_query_that_is_no_text_is_an_error(client, query):
    with pytest.raises(AppError, match="query"):
        search(client, query)


def test_the_arguments_of_search_are_documented(client):
    documented = client.view_api(return_format="dict", print_info=False)
    parameters = documented["named_endpoints"]["/search"]["parameters"]
    assert [(p["parameter_name"], p.get("parameter_default")) for p in parameters] == [
        ("query", None),
        ("top", 10),
        ("beams", 10),
        ("memory", ""),
        ("album", ""),
    ]


def test_images_are_served_as_files_and_nothing_else_of_the_gallery_is(app_address, tiny_memory):
    with urllib.request.urlopen(f"{app_address}picture/shipped/0/1") as response:
        assert response.headers["Content-Type"].startswith("image/")
        assert response.read() == tiny_memory.gallery.path(0).read_bytes()
    outside = [f"picture/shipped/{place}/1" for place in (len(tiny_memory.gallery), -1, "metadata.jsonl")]
    metadata = tiny_memory.gallery.path(0).parent / "metadata.jsonl"
    for path in [*outside, f"gradio_api/file={metadata}"]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(app_address + path)
        assert refused.value.code in (403, 404)


def test_the_picture_in_large_is_served_where_the_memory_keeps_one_and_the_small_one_elsewhere(
    album_client, tiny_memory
):
    for index, expected in ((0, LARGE), (1, tiny_memory.gallery.path(1).read_bytes())):
        with urllib.request.urlopen(f"{album_client.src}original/shipped/{index}/1") as response:
            assert response.headers["Content-Type"].startswith("image/")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.read() == expected
    for outside in ("shipped/12", "shipped/-1", "shipped/metadata.jsonl", "AAAAAAAAAAAA/0"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{album_client.src}original/{outside}/1")
        assert refused.value.code == 404


def test_no_other_host_is_named_for_fonts_or_styles(app_address):
    for path in ("theme.css", "app.css"):
        with urllib.request.urlopen(app_address + path) as response:
            assert "http" not in response.read().decode().replace("http://www.w3.org/2000/svg", "")


def test_without_a_memory_the_page_is_served_and_the_api_says_what_is_missing(bare_client):
    with pytest.raises(AppError, match="memory"):
        search(bare_client, QUERY)
    with urllib.request.urlopen(f"{bare_client.src}config") as response:
        assert json.load(response)["title"]


@pytest.mark.slow
def test_the_terminal_says_where_the_page_is_and_no_more(tmp_path):
    log = tmp_path / "app.log"
    with serve(ROOT / "checkpoints" / "emoji", log, training=0) as address:  # no advice about what would be kept
        assert search(Client(address, verbose=False), QUERY)["dense"]
        assert log.read_text() == f"The page is at {address} (Ctrl-C ends it).\n"
