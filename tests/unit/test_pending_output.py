"""What waits to be written: the same however it came, and no larger than it is."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.assembly import merged
from libs.worker.json_object import json_object
from libs.worker.pending_output import PendingOutput
from tests.architecture.source_code import ROOT

texts = st.text(max_size=3)


@st.composite
def said(draw: st.DrawFn) -> chat.ChatCompletionChunk:
    chunk = chat.ChatCompletionChunk()
    if draw(st.booleans()):
        chunk.content = draw(texts)
    if draw(st.booleans()):
        chunk.reasoning_content = draw(texts)
    for index in draw(st.lists(st.integers(0, 2), max_size=3)):
        call = chunk.tool_calls.add(index=index, arguments=draw(texts))
        if draw(st.integers(0, 3)) == 0:
            call.id, call.name = draw(st.text("ab", min_size=1, max_size=2)), "tool"
            call.extra_content.google.thought_signature = "c2ln"
    if draw(st.integers(0, 5)) == 0:
        chunk.model = "m"
        chunk.reasoning_details.append(json_object({"n": draw(st.integers(0, 9))}))
        chunk.metadata.upstream_provider = "u"
    return chunk


def calls(chunks: list[chat.ChatCompletionChunk]) -> list[tuple[int, str, str, str, str]]:
    """Joins the fragments by the simplest rule: one that is of the call before it and has no id goes on with it."""
    found: list[list] = []
    for call in (call for chunk in chunks for call in chunk.tool_calls):
        signature = call.extra_content.google.thought_signature
        if found and found[-1][0] == call.index and not call.id:
            found[-1][3] += call.arguments
        else:
            found.append([call.index, call.id, call.name, call.arguments, signature])
    return [tuple(call) for call in found]


class TestTaken:
    @given(st.lists(said(), max_size=200))
    def test_is_all_that_was_added_in_its_order(self, chunks: list[chat.ChatCompletionChunk]) -> None:
        pending, copies = PendingOutput(), [chat.ChatCompletionChunk.FromString(c.SerializeToString()) for c in chunks]
        for chunk in chunks:
            pending.add(chunk)
        assert pending.has_output == any(c.content or c.reasoning_content or c.tool_calls for c in copies)
        whole = pending.take()
        assert whole.content == "".join(c.content for c in copies)
        assert whole.reasoning_content == "".join(c.reasoning_content for c in copies)
        assert list(whole.reasoning_details) == [detail for c in copies for detail in c.reasoning_details]
        assert whole.HasField("model") == any(c.HasField("model") for c in copies)
        assert calls([whole]) == calls(copies)

    def test_leaves_nothing(self) -> None:
        pending = PendingOutput()
        pending.add(chat.ChatCompletionChunk(content="x"))
        pending.take()
        assert (pending.size, pending.has_output, pending.take()) == (0, False, chat.ChatCompletionChunk())

    def test_a_single_one_is_not_copied(self) -> None:
        chunk = chat.ChatCompletionChunk(content="x")
        assert merged([chunk]) is chunk

    def test_facts_alone_are_no_output(self) -> None:
        pending = PendingOutput()
        pending.add(chat.ChatCompletionChunk(id="a", model="m"))
        assert (pending.has_output, pending.size > 0) == (False, True)


_MANY_DELTAS = """
import resource, sys
from realmultillm.chat.v1 import chat_service_pb2 as chat
from libs.worker.pending_output import PendingOutput

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for kind in ("content", "reasoning_content", "arguments"):
    pending = PendingOutput()
    for number in range(60_000):
        chunk = chat.ChatCompletionChunk()
        if kind == "arguments":
            chunk.tool_calls.add(index=0, arguments="some words, ")
        else:
            setattr(chunk, kind, "some words, ")
        pending.add(chunk)
    assert pending.size > 700_000
    pending.take()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


class TestCost:
    def test_of_many_small_deltas_is_about_their_size(self) -> None:
        """A text that grew in its message took gigabytes: protobuf keeps every copy."""
        command = [sys.executable, "-c", _MANY_DELTAS]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        assert int(done.stdout) < 64  # MiB, of 2 MiB of text
