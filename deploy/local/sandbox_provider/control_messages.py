"""What the control endpoint and its client say to each other: JSON, names in lowerCamel."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

Ending = Literal["completed", "client_closed", "cut"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

Milliseconds = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class ControlMessage(BaseModel):
    """Refuses unknown fields and wrong types, so that a misspelt rule never passes for a normal day."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, frozen=True)


class Match(ControlMessage):
    """Which requests a behaviour is for; a field left out matches all."""

    key: str | None = None
    model: str | None = None
    path: str | None = None
    """The whole path, e.g. `/openai/v1/chat/completions`."""


class Behaviour(ControlMessage):
    """How to answer: everything left out is as on a normal day.

    A *chunk* is an event of a stream that carries output (text or a fragment of a tool call). Faults named
    `…_after_chunks` strike after that many of them; past the end of the answer, after its last one.
    """

    match: Match = Match()
    times: Positive | None = None
    """How many requests it is for; by default all until it is deleted."""

    status: Annotated[int, Field(ge=200, le=599)] | None = None
    """Answers with this status; without `body`, by what the provider says in such a case."""
    headers: dict[str, str] = {}
    """Added to whatever is answered."""
    body: JsonValue = None
    """Answered as it is: a string raw, anything else as JSON."""
    error_in_body: bool = False
    """Answers 200 with an error for a body."""
    silent: bool = False
    """Takes the request and never answers."""
    cut_before_headers: bool = False
    """Resets the connection instead of answering."""

    delay_ms: Milliseconds = 0
    """Before the headers."""
    first_chunk_delay_ms: Milliseconds = 0
    """Between the headers and the first event."""
    chunk_delay_ms: Milliseconds | None = None
    """Between chunks; by default as the server was started."""

    content: str | None = None
    """The text to answer, also where tools or JSON were asked for."""
    reasoning: str | None = None
    """What the model thinks before it answers, where the dialect tells that; with it every model thinks."""
    chunk_count: Positive | None = None
    """Divides `content` into as many chunks; without `content` the answer is made so many tokens long."""
    finish_reason: FinishReason | None = None
    block_prompt: bool = False
    """Refuses the prompt itself, in the way of the provider, where it has one: Google by a success without answer."""
    usage: dict[str, JsonValue] = {}
    """Laid over the usage, in the provider's own names."""
    omit_usage: bool = False
    extra_fields: dict[str, JsonValue] = {}
    """Added to the body, or to every event of a stream."""

    hold_after_chunks: Count | None = None
    """Sends no more until the behaviours of its key are forgotten."""
    cut_after_chunks: Count | None = None
    """Resets the connection; an answer that is not streamed is cut in the middle of its body."""
    end_after_chunks: Count | None = None
    """Ends the body cleanly, without a terminal event."""
    malformed_after_chunks: Count | None = None
    """Sends one event that is not JSON, then goes on."""
    error_in_stream_after_chunks: Count | None = None
    """Sends the provider's error event, then ends the body."""
    omit_done: bool = False
    """Leaves out the terminal event (`[DONE]`)."""

    split_bytes: Positive | None = None
    """Writes a stream so many bytes at a time, also through the middle of a character."""
    crlf: bool = False
    """Ends the lines of a stream by CRLF."""
    comment: str | None = None
    """Sends this comment line before every event, e.g. `keep-alive`."""


class RecordedRequest(ControlMessage):
    """One request as it arrived and what became of it.

    Monotonic times are seconds of this machine's `time.monotonic()`, comparable between its processes.
    """

    id: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    body: JsonValue
    """Parsed where it is JSON, else the text."""
    raw_body: str
    """As it came, which is UTF-8 where a provider takes it."""
    key: str | None
    model: str | None
    started_at: float
    """Unix time, seconds."""
    started_monotonic: float
    status: int | None
    """Of the answer, once its headers are sent."""
    bytes_sent: int
    chunks_sent: int
    first_chunk_monotonic: float | None
    last_chunk_monotonic: float | None
    ended: Ending | None
    """None while it is being answered; `completed` when all was sent that was meant to be."""
    ended_at: float | None
    ended_monotonic: float | None


class RecordedRequests(ControlMessage):
    """An answer to `GET /_sandbox/requests`."""

    requests: list[RecordedRequest]
