"""The queue of the page: visitors take turns, and what a request may name is checked before it waits."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from gradio.data_classes import PredictBodyInternal
from starlette.requests import Request

from gcr_core.errors import InputError
from gcr_core.settings import Settings
from gcr_core.ui.auth import HEADER
from gcr_core.ui.fair_queue import ADDRESS_SHARE, IN_TURN, FairQueue, check_files
from gcr_core.ui.gradio_import import gr


@pytest.fixture
def waiting():
    """A page's queue, in which nothing is answered; `ask(secret, address)` has a visitor ask and tells what came."""
    loop, thread = asyncio.new_event_loop(), ThreadPoolExecutor(1)  # Playwright's loop may run in this one

    def make(concurrency_id=None, concurrency_limit=1, **settings):
        with gr.Blocks() as page:
            box = gr.Textbox()
            line = {"concurrency_id": concurrency_id, "concurrency_limit": concurrency_limit}
            box.submit(lambda words: words, box, box, **line)
        page.queue()
        page._queue = queue = FairQueue(page, Settings(visitors=True, **settings), 1)

        def ask(secret, address="8.8.8.8", session=None, data=("words",), fn_index=0):
            headers = [(HEADER.lower().encode(), (secret * 32)[:32].encode())]
            scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": headers}
            request = Request(scope | {"client": (address, 1), "query_string": b"", "server": ("testserver", 80)})
            body = PredictBodyInternal(data=list(data), fn_index=fn_index, session_hash=session, request=request)
            return thread.submit(loop.run_until_complete, queue.push(body, request, None)).result()

        return queue, ask

    yield make
    thread.shutdown()
    loop.close()


def order(queue):
    """In which order what waits is answered."""
    taken = []
    while (events := queue.get_events()) is not None:
        event = events[0][0]
        taken.append(event.request.headers[HEADER][0] + event.request.client.host[0])
    return "".join(letter for letter, _ in map(tuple, taken)), [each[1] for each in taken]


def test_one_visitors_many_requests_wait_behind_their_own_and_a_strangers_is_next(waiting):
    queue, ask = waiting()
    for _ in range(20):
        ask("a", "8.8.8.8")
    ask("b", "1.1.1.1")
    ask("c", "9.9.9.9")
    names, _ = order(queue)
    assert names[:3] == "abc" and names[3:] == "a" * 19


def test_a_turn_of_one_is_not_told_to_all_that_wait(waiting):
    queue, ask = waiting()
    for number in range(20):
        ask("a", session=f"{number}")
    before = {session: messages.qsize() for session, messages in queue.pending_messages_per_session.items()}

    async def one_turn():
        async def nothing(*given):
            pass

        queue.process_events, queue.active_jobs = nothing, [None]
        turn = asyncio.create_task(queue.start_processing())
        while queue.active_jobs == [None]:
            await asyncio.sleep(0.01)
        queue.stopped = True
        await turn

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, one_turn()).result()
    told = {session: messages.qsize() for session, messages in queue.pending_messages_per_session.items()}
    assert told == before and len(told) == 20


def test_what_fills_the_same_part_of_a_page_runs_one_after_another(waiting):
    queue, ask = waiting(concurrency_id=IN_TURN, concurrency_limit=4)
    queue.active_jobs = [None] * 4
    for session in ("first", "first", "second"):
        ask("a", session=session)
    for place, session in enumerate(("first", "second")):
        queue.active_jobs[place], *_ = queue.get_events()
        assert queue.active_jobs[place][0].session_hash == session
    assert queue.get_events() is None
    queue.active_jobs[0] = None
    assert queue.get_events()[0][0].session_hash == "first"


def test_who_invents_owners_has_no_more_turns_than_others(waiting):
    queue, ask = waiting()
    for secret in "abcdefgh":
        ask(secret, "8.8.8.8")
    for _ in range(3):
        ask("z", "1.1.1.1")
    names, _ = order(queue)
    assert [i for i, name in enumerate(names) if name == "z"] == [1, 3, 5]


def test_two_at_one_address_take_turns_too(waiting):
    queue, ask = waiting()
    for _ in range(4):
        ask("a")
    for _ in range(2):
        ask("b")
    assert order(queue)[0] == "ababaa"


def test_who_asks_too_much_at_once_is_told_the_limit_and_others_are_not_touched(waiting):
    queue, ask = waiting(max_requests=2, max_requests_in_all=30)
    assert [ask("a")[0] for _ in range(2)] == [True, True]
    assert ask("a") == (
        False,
        "2 requests of yours wait for answers, the limit is 2: wait for some of them",
        "queue_full",
    )
    for secret in "bcdefgh":
        assert [ask(secret)[0] for _ in range(2)] == [True, True]
    accepted, words, _ = ask("i")
    assert not accepted and words.startswith(f"{2 * ADDRESS_SHARE} requests from your address wait")
    assert ask("i", "1.1.1.1")[0]
    while len(queue.event_ids_to_events) < 30:
        secret = chr(ord("j") + len(queue.event_ids_to_events) % 16)
        ask(secret, f"9.9.9.{len(queue.event_ids_to_events)}")
    assert ask("y", "4.4.4.4")[1].startswith("30 requests wait for answers, the limit is 30: ask again")


def test_on_ones_own_machine_nobody_is_limited_to_a_share(waiting):
    queue, ask = waiting(max_requests=1)
    queue.settings = Settings(max_requests=1)
    assert all(ask("a")[0] for _ in range(40))


@pytest.mark.slow
def test_hundreds_that_wait_do_not_keep_the_server_from_answering(waiting):
    queue, ask = waiting(max_requests=10_000)
    for number in range(500):
        ask("a", f"8.8.{number // 250}.{number % 250}")
    called = 0

    def count(frame, event, argument):
        nonlocal called
        called += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for _ in range(5):
            queue.get_events()
    finally:
        sys.setprofile(None)
    assert called < 5 * 500 * 100, "a few dozen functions for each that waits, however many wait"


def test_a_session_is_whoevers_it_was_first(waiting):
    _, ask = waiting()
    assert ask("a", session="s")[0] and ask("a", "1.1.1.1", session="s")[0]
    for data in (("words",), [{"path": "/etc/passwd"}]):
        assert ask("b", session="s", data=data) == (
            False,
            "this session is another visitor's: reload the page",
            "error",
        )


@pytest.mark.parametrize("number", [None, -1, 10**6])
def test_a_function_that_is_none_is_refused(waiting, number):
    accepted, words, _ = waiting()[1]("a", fn_index=number)
    assert not accepted and "there is no function" in words


def test_files_of_a_request_are_its_senders_own_uploads(tmp_path):
    own, other = tmp_path / "ann", tmp_path / "bob"
    for folder in (own, other):
        folder.mkdir()
        (folder / "a.png").write_bytes(b"x")
    (own / "link.png").symlink_to(other / "a.png")
    check_files(
        [{"path": str(own / "a.png")}, {"files": [{"path": str(own / "a.png"), "url": "/"}]}, "text", None], own
    )
    for path in (
        other / "a.png",
        own / ".." / "bob" / "a.png",
        own / "link.png",
        "/etc/passwd",
        "https://a.example/b",
    ):
        with pytest.raises(InputError, match="no upload of yours"):
            check_files([{"files": [{"path": str(path)}]}], own)
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InputError, match="more than 32 deep"):
        check_files(deep, own)


def test_a_mistake_in_what_is_asked_reaches_whoever_asked_as_one_of_the_function(waiting):
    queue, ask = waiting()
    accepted, event, _ = ask("a", data=[{"path": "/etc/passwd"}])
    assert accepted and event not in queue.event_ids_to_events
    message = queue.pending_messages_per_session[event].get_nowait()
    assert not message.success and "no upload of yours" in message.output["error"]
