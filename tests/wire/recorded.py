"""The checks that the recorded exchanges of every wire have to stand.

A wire's test file makes a class of them, which says what is recorded and what counts as the same::

    class TestRecorded(Recorded):
        answers, streams = ("openai_chat",), ("openai_chat_streams",)
        subject = SUBJECT
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tests.wire import roundtrip
from tests.wire.roundtrip import Subject, assert_only, tally


class Recorded:
    """``answers`` and ``streams`` are corpus files; both hold requests too."""

    answers: ClassVar[tuple[str, ...]]
    streams: ClassVar[tuple[str, ...]]
    subject: ClassVar[Subject]
    not_assembled: ClassVar[Mapping[str, str]] = {}
    """Streams that mean something else sent whole or sent on -> why."""

    def subject_of(self, _record: Mapping[str, Any]) -> Subject:
        """What a record is compared under."""
        return self.subject

    def test_requests_survive_the_round_trip(self) -> None:
        self._check_requests(roundtrip.request_differences)

    def test_requests_to_the_same_wire_are_forwarded_unchanged(self) -> None:
        self._check_requests(roundtrip.forwarding_differences)

    def _check_requests(self, check: Callable[[Subject, Mapping[str, Any]], list[str]]) -> None:
        records = roundtrip.requests(*self.answers, *self.streams)
        assert_only(tally(records, lambda record: check(self.subject_of(record), record)), {})

    def test_answers_survive_the_round_trip(self) -> None:
        self._check_answers(roundtrip.response_differences)

    def test_answers_played_back_as_streams_mean_the_same(self) -> None:
        self._check_answers(lambda subject, record: roundtrip.replay_differences(subject, record["body"]))

    def _check_answers(self, check: Callable[[Subject, Mapping[str, Any]], list[str]]) -> None:
        records = roundtrip.responses(*self.answers)
        assert_only(tally(records, lambda record: check(self.subject_of(record), record)), {})

    def test_streams_put_together_mean_the_same_sent_whole_and_sent_on(self) -> None:
        self._check_streams(roundtrip.assembly_differences, self.not_assembled)

    def test_streams_do_not_depend_on_how_bytes_arrive(self) -> None:
        self._check_streams(roundtrip.rechunking_differences)

    def test_cut_streams_are_never_taken_for_complete(self) -> None:
        self._check_streams(roundtrip.cut_differences)

    def test_an_error_frame_is_heard_wherever_it_stands(self) -> None:
        self._check_streams(roundtrip.injection_differences)

    def _check_streams(
        self, check: Callable[[Subject, bytes], list[str]], exceptions: Mapping[str, str] | None = None
    ) -> None:
        records = roundtrip.streams(*self.streams)
        result = tally(records, lambda record: check(self.subject_of(record), roundtrip.stream_bytes(record)))
        assert_only(result, exceptions or {})
