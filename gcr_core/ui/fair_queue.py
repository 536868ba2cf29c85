"""Fair queue: Gradio's, in which visitors take turns: requests of one wait behind their own, not before others'.

Turns go by address first, and of one address by owner: whoever invents owners has no more turns for it. What a visitor
may ask for, and of which files, is checked before anything waits.
"""

from asyncio import Queue as AsyncQueue
from collections import OrderedDict
from itertools import count
from pathlib import Path
from typing import Any, Literal

from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage
from starlette.concurrency import run_in_threadpool

from gcr_core.errors import GcrError, InputError
from gcr_core.settings import Settings
from gcr_core.ui import uploads
from gcr_core.ui.auth import Visitor
from gcr_core.ui.sessions import Sessions

ADDRESS_SHARE = 8
"""How many times as much as one visitor all may have who ask from one address: a school, a company."""
REMEMBERED = 4_096
"""How many visitors' last turns are remembered."""
MAX_SESSIONS = 100_000
"""How many sessions' answers may wait to be fetched."""
TOLD_SECONDS = 1
"""How often those that wait are told how many are before them."""
IN_TURN = "search"
"""The line in which events of one session run one after another: they fill the same parts of its page."""
MAX_DEPTH = 32
"""How deep lists and objects of a request may stand in each other."""
Outcome = tuple[bool, str | list[dict[str, Any]], Literal["success", "error", "queue_full", "validator_error"]]


class FairQueue(Queue):
    """The queue of a page, in place of the one that `Blocks.queue` makes."""

    def __init__(self, page: Any, settings: Settings, concurrency_limit: int) -> None:
        """`page`: the Blocks, whose functions run at most `concurrency_limit` times at once unless they say more."""
        super().__init__(
            live_updates=False,  # at each turn, a message to each that waits took longer than what was asked for
            concurrency_count=page.max_threads,
            update_intervals=TOLD_SECONDS,
            max_size=None,
            blocks=page,
            default_concurrency_limit=concurrency_limit,
        )
        self.settings, self.sessions = settings, Sessions(page)
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._number = count(1)
        self.ANALYTICS_MAX_EVENTS = 1
        self.pending_messages_per_session.max_size = MAX_SESSIONS  # that many calls must not cut off other visitors'

    async def push(self, body: PredictBodyInternal, request: Any, username: str | None) -> Outcome:
        """As Gradio's, where the visitor has requests left and names nobody else's session or files."""
        visitor, session = Visitor.of(request.scope), body.session_hash
        who = visitor.key if self.settings.visitors else ""
        if body.fn_index not in self.blocks.fns:
            return False, f"there is no function {body.fn_index} here: reload the page", "error"
        if session is not None and not self.sessions.admits(session, who):
            return False, "this session is another visitor's: reload the page", "error"
        try:
            if not isinstance(body.event_data, dict | None):
                raise InputError(f"the event's data are {type(body.event_data).__name__}, no object: reload the page")
            self._check(visitor)
            await run_in_threadpool(check_files, [body.data, body.event_data], uploads.folder())
        except InputError as mistake:
            return True, self._failed(body, request, str(mistake), who), "success"
        except GcrError as full:
            return False, str(full), "queue_full"
        if session is not None:
            self.sessions.use(session, who)
        accepted, event, outcome = await super().push(body, request, username)
        if accepted and isinstance(event, str):
            self.sessions.note(event, session or event)
            self.sessions.use(session or event, who)
        return accepted, event, outcome

    def _failed(self, body: PredictBodyInternal, request: Any, words: str, who: str) -> str:
        """An event that has ended with a mistake, which is told as one of the function is; its id."""
        event = Event(body.session_hash, self.blocks.fns[body.fn_index], request, None)  # type: ignore[index]
        self.pending_messages_per_session.setdefault(event.session_hash, AsyncQueue())
        self.pending_event_ids_session.setdefault(event.session_hash, set()).add(event._id)
        self.sessions.note(event._id, event.session_hash)
        self.sessions.use(event.session_hash, who)
        self.send_message(event, ProcessCompletedMessage(output={"error": words}, title="Error", success=False))
        return event._id

    def compute_analytics_summary(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Nothing: Gradio sums its requests up by pandas after each one, and nobody looks at that here."""
        return {}

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """As Gradio's; of those that wait, the first of whoever was last served the longest ago, and in the line
        IN_TURN none while another of its session runs."""
        for line in self.event_queue_per_concurrency_id.values():
            if len(line.queue) > 1:
                first = min(line.queue, key=self._last_turn)
                line.queue.remove(first)
                line.queue.insert(0, first)
        search, under_way = self.event_queue_per_concurrency_id.get(IN_TURN), self._under_way()
        waiting = search.queue if search else []
        held = [event for event in waiting if event.session_hash in under_way]
        for event in held:
            waiting.remove(event)
        taken = super().get_events()
        waiting[:0] = held
        for event in taken[0] if taken else []:
            visitor = Visitor.of(event.request.scope)
            for key in (visitor.address, visitor.key):
                self._turns[key] = next(self._number)
                self._turns.move_to_end(key)
            while len(self._turns) > REMEMBERED:
                self._turns.popitem(last=False)
        return taken

    def _under_way(self) -> set[str | None]:
        """The sessions of which an event of the line IN_TURN runs."""
        running = (event for job in self.active_jobs for event in job or [])
        return {event.session_hash for event in running if event.concurrency_id == IN_TURN}

    def _last_turn(self, event: Event) -> tuple[int, int]:
        visitor = Visitor.of(event.request.scope)
        return self._turns.get(visitor.address, 0), self._turns.get(visitor.key, 0)

    def _check(self, visitor: Visitor) -> None:
        """Raises GcrError where too many requests wait or are answered: this visitor's, or everybody's."""
        waiting = [Visitor.of(event.request.scope) for event in self.event_ids_to_events.values()]
        if len(waiting) >= self.settings.max_requests_in_all:
            raise GcrError(
                f"{len(waiting):,} requests wait for answers, the limit is {self.settings.max_requests_in_all:,}: ask "
                "again in a minute"
            )
        if not self.settings.visitors:
            return
        limit = self.settings.max_requests
        own = sum(each.key == visitor.key for each in waiting)
        if own >= limit:
            raise GcrError(f"{own:,} requests of yours wait for answers, the limit is {limit:,}: wait for some of them")
        near = sum(each.address == visitor.address for each in waiting)
        if near >= ADDRESS_SHARE * limit:
            raise GcrError(
                f"{near:,} requests from your address wait for answers, the limit is {ADDRESS_SHARE * limit:,}: wait "
                "for some of them"
            )


def check_files(data: Any, folder: Path, depth: int = 0) -> None:
    """Raises InputError where data of a request names a file that is no upload of the sender's, in `folder`."""
    if depth > MAX_DEPTH:
        raise InputError(f"lists and objects stand in each other, more than {MAX_DEPTH} deep: ask with less")
    if isinstance(data, dict):
        path = data.get("path")
        if isinstance(path, str) and not Path(path).resolve().is_relative_to(folder.resolve()):
            raise InputError("a file is no upload of yours, or one from over an hour ago: upload it again")
        data = list(data.values())
    if isinstance(data, list):
        for each in data:
            check_files(each, folder, depth + 1)
