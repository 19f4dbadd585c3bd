"""The event parser against a slow, obviously right one, on any bytes cut anywhere."""

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.worker import sse
from libs.worker.sse import EventParser, EventTooLarge

Events = list[tuple[bytes, bytes]]


def reference(stream: bytes) -> Events:
    """The standard's steps, one by one, over the whole stream; the end of the stream ends line and event."""
    events: Events = []
    name, data = b"", list[bytes]()
    for line in [*re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, colon, value = line.partition(b":")
        if colon and not field:
            continue  # a comment
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


def parse(*pieces: bytes) -> Events:
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.end()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


SNIPPETS = [
    b"data:",
    b"data: ",
    b"data",
    b"event: delta",
    b"event:",
    b"event",
    b"id: 7",
    b"retry: 10",
    b": comment",
    b":",
    b"unknown: x",
    b"database: x",
    b" data: x",
    b"x",
    b" ",
    b":",
    b'{"a":1}',
    "日本→🙂".encode(),
    b"\xef\xbb\xbf",
    b"\xff\x00",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"\r\n\r\n",
]
streams = st.lists(st.sampled_from(SNIPPETS), max_size=40).map(b"".join) | st.binary(max_size=200)
places = st.lists(st.integers(0, 1000), max_size=20)


class TestAgainstTheReference:
    @settings(max_examples=600)
    @given(streams, places)
    @example(b"data: a\r\ndata: b\r\n\r\n", [8])  # between CR and LF
    @example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])  # within the byte order mark
    @example("data: 🙂\n\n".encode(), [7, 8, 9])  # within a character
    @example(b"data: a\r", [])
    @example(b"data: a\n\r", [8])
    def test_any_stream_cut_anywhere(self, stream: bytes, cuts: list[int]) -> None:
        assert parse(*cut(stream, cuts)) == reference(stream)

    @given(streams)
    def test_any_stream_byte_by_byte(self, stream: bytes) -> None:
        assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == reference(stream)

    @given(streams, places)
    def test_empty_pieces_change_nothing(self, stream: bytes, cuts: list[int]) -> None:
        assert parse(*(piece for part in cut(stream, cuts) for piece in (b"", part, b""))) == reference(stream)


class TestEvents:
    def test_an_event_comes_with_the_byte_that_ends_it(self) -> None:
        parser = EventParser()
        assert parser.feed(b"data: a\n") == []
        assert parser.feed(b"\n") == [(b"", b"a")]

    def test_an_event_ended_by_a_carriage_return_does_not_wait_for_what_may_follow_it(self) -> None:
        parser = EventParser()
        assert parser.feed(b"data: a\r\n\r") == [(b"", b"a")]
        assert parser.feed(b"\ndata: b\r\n\r\n") == [(b"", b"b")]

    def test_a_name_is_for_one_event(self) -> None:
        assert parse(b"event: error\ndata: 1\n\ndata: 2\n\n") == [(b"error", b"1"), (b"", b"2")]

    def test_an_event_without_data_is_none(self) -> None:
        assert parse(b"event: ping\n\n: keep-alive\n\ndata: 1\n\n") == [(b"", b"1")]

    def test_lines_of_data_are_joined(self) -> None:
        assert parse(b"data: 1\ndata:\ndata:  2\n\n") == [(b"", b"1\n\n 2")]

    def test_an_event_cut_off_by_the_end_is_delivered(self) -> None:
        assert parse(b"data: 1") == [(b"", b"1")]

    def test_the_end_without_an_event_is_quiet(self) -> None:
        assert parse(b"data: 1\n\n") == [(b"", b"1")]
        assert parse() == []

    def test_a_byte_order_mark_counts_at_the_beginning_only(self) -> None:
        assert parse(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n") == [(b"", b"1")]


class TestSize:
    @pytest.fixture(autouse=True)
    def small_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)

    @pytest.mark.parametrize(
        "piece", [b"x" * 100, b"data: " + b"x" * 94, b"data: x\n", b"data\n", b"data:\n", b"data:\r\n"]
    )
    def test_an_endless_event_is_refused(self, piece: bytes) -> None:
        parser = EventParser()
        with pytest.raises(EventTooLarge):
            [parser.feed(piece) for _ in range(1000)]

    def test_an_endless_stream_of_small_events_and_comments_is_not(self) -> None:
        parser = EventParser()
        assert sum(len(parser.feed(b": comment\ndata: x\n\nid: 1\n")) for _ in range(1000)) == 1000

    @staticmethod
    def bytes_taken(size: int, piece: bytes) -> int:
        """Counts the memory asked for while a line of `size` bytes arrives: what each step takes at its peak."""
        parser = EventParser()
        parser.feed(b"data: ")
        taken = 0
        tracemalloc.start()
        try:
            for _ in range(size // len(piece)):
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                parser.feed(piece)
                taken += tracemalloc.get_traced_memory()[1] - before
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            assert parser.feed(b"\n\n") == [(b"", piece * (size // len(piece)))]
            taken += tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        return taken

    def test_a_huge_line_in_small_pieces_costs_in_proportion_to_its_length(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 2**30)
        piece = b"x" * 500
        small, large = self.bytes_taken(100_000, piece), self.bytes_taken(1_600_000, piece)
        # Sixteen times the input; a parser that copies what it holds at each step would take 256 times as much.
        assert large < 24 * small
