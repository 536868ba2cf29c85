"""Sessions: whose each of Gradio's sessions and events is, and when one is over.

Gradio takes the name of a session, or of an event in it, from whoever asks, and keeps what it knows of a session until
there are thousands of later ones. Here a name belongs to the visitor who used it first. A call that named no session
ends with its answer; a session soon after nobody has used it, and that of a page, which holds on to it by a stream of
heartbeats, a while after the page is closed.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from gradio.state_holder import SessionState, StateHolder

UNUSED_SECONDS = 30.0
"""How long a session is kept after its last use."""
CLOSED_SECONDS = 300.0
"""How long the session of a page is kept after the page was closed, or lost its connection."""
SWEPT_EVERY_SECONDS = 10.0
MOST = 128
"""How many sessions of one visitor are kept: then the oldest that nothing holds ends for a new one."""
MOST_EVENTS = 1_000
"""Of how many events of a session is known that they are its: more than one may have under way."""


class Sessions:
    """The sessions of a page's queue. Used in the event loop only."""

    def __init__(self, page: Any) -> None:
        """`page`: the Blocks, whose queue and state holder have the sessions."""
        self._page = page
        self._visitor: dict[str, str] = {}
        self._until: dict[str, float] = {}
        self._session: dict[str, str] = {}
        self._events: dict[str, deque[str]] = {}
        self._streams: Counter[str] = Counter()
        self._beating: Counter[str] = Counter()
        self._sweep_again = 0.0

    def admits(self, name: str, visitor: str) -> bool:
        """Whether a session or event is the visitor's, as one is that nobody has used."""
        return self._visitor.get(self._session.get(name, name), visitor) == visitor

    def use(self, session: str, visitor: str) -> None:
        """Notes that the visitor uses a session, which belongs to nobody else from then on."""
        if session not in self._visitor:
            own = [name for name, of in self._visitor.items() if of == visitor]
            if len(own) >= MOST and (over := next(filter(self._is_over, own), None)):
                self._drop(over)
        self._visitor.setdefault(session, visitor)
        self._keep(session, UNUSED_SECONDS)
        self._sweep()

    def note(self, event: str, session: str) -> None:
        """Notes the session of an event."""
        self._session[event] = session
        events = self._events.setdefault(session, deque())
        events.append(event)
        if len(events) > MOST_EVENTS:
            self._session.pop(events.popleft(), None)

    @contextmanager
    def stream(self, name: str, visitor: str, beats: bool = False) -> Iterator[None]:
        """A stream of answers of a session or event, or with `beats` one that only holds on to a session."""
        session = self._session.get(name, name)
        self.use(session, visitor)
        streams = self._beating if beats else self._streams
        streams[session] += 1
        try:
            yield
        finally:
            streams[session] -= 1
            if not streams[session]:
                del streams[session]
            self._keep(session, CLOSED_SECONDS if beats else UNUSED_SECONDS)
            if session == name and self._session.get(name) == name and self._is_over(session):
                self._drop(session)

    def _keep(self, session: str, seconds: float) -> None:
        self._until[session] = max(self._until.get(session, 0.0), time.monotonic() + seconds)

    def _is_over(self, session: str) -> bool:
        """Whether nothing holds a session, nor is to be answered in it."""
        if session in self._streams or session in self._beating:
            return False
        events = self._page._queue.event_ids_to_events.values()
        return not any(event.session_hash == session for event in events)

    def _sweep(self) -> None:
        now = time.monotonic()
        if now < self._sweep_again:
            return
        self._sweep_again = now + SWEPT_EVERY_SECONDS
        for session in [name for name, until in self._until.items() if now > until]:
            if self._is_over(session):
                self._drop(session)

    def _drop(self, session: str) -> None:
        queue, holder = self._page._queue, self._page.state_holder
        held: tuple[dict[str, Any], ...] = (
            queue.pending_messages_per_session,
            queue.pending_event_ids_session,
            holder.session_data,
            holder.time_last_used,
            self._until,
            self._visitor,
        )
        for by_session in held:
            by_session.pop(session, None)
        for event in self._events.pop(session, ()):
            self._session.pop(event, None)


class SessionStates(StateHolder):
    """Gradio's, but for what a new session costs: Gradio makes the configuration of each part of the page anew for it,
    which took longer than a search, and every call of the API that names no session is one."""

    def set_blocks(self, blocks: Any) -> None:
        super().set_blocks(blocks)
        self._new = SessionState(blocks)

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            state = self.session_data[session_id] = copy(self._new)
            state.blocks_config = copy(self.blocks.default_config)
            state.config_values = {part: _copied(config) for part, config in self._new.config_values.items()}
            state.state_data, state._state_ttl = {}, {}
        return super().__getitem__(session_id)


def _copied(config: dict[str, Any]) -> dict[str, Any]:
    """A part's configuration, whose properties Gradio replaces by name."""
    return {**config, "props": {**config["props"]}} if "props" in config else dict(config)
