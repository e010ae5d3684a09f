from dataclasses import dataclass, field

from engine.runtime.messages import Forget, ToRuntime, Warm, Warmed
from engine.runtime.warming import QUIET_SECONDS, Warming


@dataclass
class Inbox:
    sent: list[ToRuntime] = field(default_factory=list)

    def send(self, message: ToRuntime) -> None:
        self.sent.append(message)


def message(uid: int) -> Warm:
    return Warm(uid=uid, prompt=[1, 2, 3], seconds=30)


def test_the_process_is_told_and_what_is_known_is_heard_until_the_stream_leaves() -> None:
    inbox, warming, known = Inbox(), Warming(), list[int]()
    warming.warm(inbox, message(1), known.append, 0.0)
    assert inbox.sent == [message(1)]
    warming.heard([Warmed(1, 2), Warmed(9, 5)])
    warming.submitted(1)
    warming.heard([Warmed(1, 3)])
    warming.forget(inbox, 1)
    assert known == [2]
    assert inbox.sent == [message(1)]


def test_a_stream_that_does_not_come_is_forgotten_once() -> None:
    inbox, warming = Inbox(), Warming()
    warming.warm(inbox, message(1), lambda _: None, 0.0)
    warming.forget(inbox, 1)
    warming.forget(inbox, 1)
    assert inbox.sent == [message(1), Forget(uid=1)]


def test_a_failure_with_waiting_streams_is_nobodys_and_the_next_one_is() -> None:
    inbox, warming = Inbox(), Warming()
    warming.warm(inbox, message(1), lambda _: None, 100.0)
    assert warming.failed(100.0)
    warming.warm(inbox, message(2), lambda _: None, 101.0)
    assert len(warming) == 0
    assert not warming.failed(101.0)
    warming.warm(inbox, message(3), lambda _: None, 100.0 + QUIET_SECONDS)
    assert len(warming) == 1


def test_a_failure_without_waiting_streams_changes_nothing() -> None:
    inbox, warming = Inbox(), Warming()
    assert not warming.failed(5.0)
    warming.warm(inbox, message(1), lambda _: None, 6.0)
    assert len(warming) == 1
