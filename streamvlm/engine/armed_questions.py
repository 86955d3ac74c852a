"""The standing questions of a session and their last firings; both stay with the session when clients come and go."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace

from streamvlm.archive.archive import Archive
from streamvlm.archive.diary import MOST_FIRED, ArmedRecord, DeliveryRecord, DisarmedRecord, FiringRecord
from streamvlm.engine.notices import call
from streamvlm.session.standing_question import ArmedQuestion, Fired, StandingQuestion, evidence_at


class ArmedQuestions:
    """All standing questions of one session, and the last 64 firings, for clients that come back.

    Args:
        changed: Guards all of it.
        archive: Where they are kept on disk; those that it holds are armed from the start.

    Attributes:
        armed: Those armed now, in the order in which they were armed; never changed in place, and so read at any time.
    """

    def __init__(self, changed: threading.Condition, archive: Archive | None) -> None:
        self._changed, self._archive = changed, archive
        self.armed: tuple[ArmedQuestion, ...] = ()
        self._fired: deque[Fired] = deque(maxlen=MOST_FIRED)
        self._n_fired = self._n_told = 0
        self._listener: Callable[[Fired], None] | None = None
        if archive is not None:
            self._recall(archive)

    def arm(self, standing_id: str, standing: StandingQuestion) -> None:
        """Checks a question from now on."""
        with self._changed:
            self.armed = (*self.armed, ArmedQuestion(standing_id, standing))
            self._note(ArmedRecord(standing_id, **asdict(standing)))

    def disarm(self, standing_id: str) -> None:
        """Checks a question no more; does nothing if it is not armed."""
        with self._changed:
            if self._is_armed(standing_id):
                self.armed = tuple(armed for armed in self.armed if armed.standing_id != standing_id)
                self._note(DisarmedRecord(standing_id))

    def fire(self, fired: Fired) -> bool:
        """Notes a firing and passes it to the listener; returns False if the question is no longer armed."""
        with self._changed:
            if not self._is_armed(fired.standing_id):
                return False
            self._n_fired += 1
            self._fired.append(replace(fired, number=self._n_fired))
            self._note(FiringRecord(self._n_fired, fired.standing_id, fired.question, fired.time_s, fired.probability))
            self._tell()
            return True

    def listen(self, listener: Callable[[Fired], None] | None, *, after: int | None = None) -> int:
        """Passes the firings that no listener got yet, and those to come, to a listener; None: to nobody.

        Args:
            listener: Is called under the lock and must return at once.
            after: Number of the last firing that the listener knows: it gets those after it, once more if need be.

        Returns:
            The number after which the listener gets firings.
        """
        with self._changed:
            self._listener = listener
            if after is not None and after <= self._n_fired:
                self._n_told = after
            begins_after = self._n_told
            self._tell()
            return begins_after

    def _is_armed(self, standing_id: str) -> bool:
        return any(armed.standing_id == standing_id for armed in self.armed)

    def _tell(self) -> None:
        if self._listener is None or self._n_told == self._n_fired:
            return
        for fired in self._fired:
            if fired.number > self._n_told:
                call(self._listener, replace(fired, n_missed=fired.number - self._n_told - 1))
                self._n_told = fired.number
        self._note(DeliveryRecord(self._n_told))

    def _recall(self, archive: Archive) -> None:
        kept = archive.diary.standing()
        for record in kept.fired:
            evidence = evidence_at(record.time_s)
            fired = Fired(record.standing_id, record.question, record.time_s, record.probability, evidence)
            self._fired.append(replace(fired, number=record.number))
        last_s = {record.standing_id: record.time_s for record in kept.fired}
        for one in kept.armed:
            fields = {name: value for name, value in asdict(one).items() if name != "standing_id"}
            fired_s = last_s.get(one.standing_id)
            armed = ArmedQuestion(one.standing_id, StandingQuestion(**fields), fired_s=fired_s)
            self.armed = (*self.armed, armed)
        self._n_told = kept.n_told
        self._n_fired = max(kept.n_told, *(record.number for record in kept.fired), 0)

    def _note(self, record: ArmedRecord | DisarmedRecord | FiringRecord | DeliveryRecord) -> None:
        if self._archive is not None:
            self._archive.writer.note(record)
