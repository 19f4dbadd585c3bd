"""Members of a JSON object, found and replaced without touching the rest."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidRequest
from libs.json_members import JsonMembers, named_model

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=6)
# How JSON may be written: what stands between its parts, and whether characters are escaped.
WRITTEN = st.tuples(
    st.sampled_from([(",", ":"), (" , ", " : "), ("\r\n,\t", "\n:  ")]), st.booleans(), st.none() | st.just(2)
)


def written(value: object, how: tuple) -> bytes:
    separators, escaped, indent = how
    try:
        return json.dumps(value, separators=separators, ensure_ascii=escaped, indent=indent).encode()
    except UnicodeEncodeError:  # half a surrogate pair is no UTF-8
        return json.dumps(value, separators=separators, indent=indent).encode()


class TestMembers:
    @given(OBJECTS, WRITTEN)
    def test_are_those_another_parser_finds(self, held: dict, how: tuple) -> None:
        body = b" \n" + written(held, how) + b"\t"
        try:
            body.decode().encode()
            json.loads(body)
            members = JsonMembers(body)
        except InvalidRequest:
            assert "\\ud" in body.decode().lower()  # what is no character is refused
            return
        assert members.whole == body
        for name, value in held.items():
            assert name in members
            assert json.loads(members.raw(name)) == value
        assert "no such member here" not in members
        assert members.raw("no such member here") == b""

    @given(OBJECTS, WRITTEN, st.dictionaries(st.sampled_from(["model", "a", "b", ""]), VALUES, max_size=3))
    def test_are_replaced_and_nothing_else_is(self, held: dict, how: tuple, changes: dict) -> None:
        body = written(held, how)
        try:
            members = JsonMembers(body)
        except InvalidRequest:
            return
        raw = {name: json.dumps(value).encode() for name, value in changes.items()}
        replaced = members.replaced(raw)
        assert json.loads(replaced) == held | changes
        back = JsonMembers(replaced).replaced({name: members.raw(name) for name in changes if name in held})
        if set(changes) <= set(held):
            assert back == body
        assert members.replaced({}) == body

    def test_keep_their_bytes(self) -> None:
        body = b'{ "m\\u006fdel" :"a", "x": [1.0e2, 10000000000000000000000 ],"e":"\\/"} \n'
        assert JsonMembers(body).replaced({"model": b'"b"'}) == body.replace(b'"a"', b'"b"')
        assert JsonMembers(b" { } ").replaced({"a": b"1", "b": b"2"}) == b' {"a":1,"b":2 } '

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"null",
            b"{",
            b'{"a":1,}',
            b"{} {}",
            b"\xff",
            b'{"a":"\xff"}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
    )
    def test_of_no_object_are_refused(self, body: bytes) -> None:
        with pytest.raises(InvalidRequest) as refused:
            JsonMembers(body)
        assert [violation.field for violation in refused.value.violations] == ["body"]

    @pytest.mark.parametrize(
        "body",
        [
            b'{"a":1,"a":1}',
            b'{"a":1,"\\u0061":2}',
            b'{"a":1,"b":2,"a":3}',
            b'{"a":"x","a":"y","b":"z"}',
            b'{"a":[",\\"b\\":1}"],"a":1,"b":1}',
            b'{"a":{"b":1},"b":1,"a":{}}',
        ],
    )
    def test_told_twice_are_refused(self, body: bytes) -> None:
        with pytest.raises(InvalidRequest, match="twice"):
            JsonMembers(body)

    def test_beyond_all_measure_are_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="at most"):
            JsonMembers(json.dumps({str(index): index for index in range(1_001)}).encode())

    @pytest.mark.parametrize(
        "body",
        [
            b'{"a":[' + b" " * 2_000_000 + b'],"a":1,"b":2}',
            b'{"a":["' + b"\\\\" * 1_000_000 + b'"],"a":1,"b":2}',
            b'{"' + b"x" * 2_000_000 + b'":1}',
        ],
        ids=["spaces at the wrong place", "escapes at the wrong place", "a long name"],
    )
    def test_cost_no_more_than_their_length(self, body: bytes) -> None:
        # Squared it would be hours: no bound on time is needed to see that.
        with contextlib.suppress(InvalidRequest):
            JsonMembers(body)


class TestValue:
    def test_is_read_by_its_kind(self) -> None:
        members = JsonMembers(b'{"t":"x","n":null,"yes":true,"no":false,"five":5}')
        assert (members.text("t"), members.text("n"), members.text("none")) == ("x", "", "")
        assert (members.flag("yes"), members.flag("no"), members.flag("n"), members.flag("none")) == (
            True,
            False,
            False,
            False,
        )
        assert (members.value("five"), members.value("none")) == (5, None)
        for read in (members.text, members.flag):
            with pytest.raises(InvalidRequest) as refused:
                read("five")
            assert refused.value.violations[0].field == "five"


class TestNamedModel:
    @pytest.mark.parametrize(
        ("body", "model"),
        [
            (b'{"model":"a/b"}', "a/b"),
            (b'{"x":[{"model":"no"}],"m\\u006fdel":"\\u0061"}', "a"),
            (b'{"model":null}', ""),
            (b"{}", ""),
        ],
    )
    def test_is_found(self, body: bytes, model: str) -> None:
        assert named_model(body) == model

    @pytest.mark.parametrize(
        ("body", "field"),
        [(b"", "body"), (b"[]", "body"), (b'{"model":5}', "model"), (b'{"model":"\xff"}', "body"), (b"{", "body")],
    )
    def test_that_is_none_is_refused(self, body: bytes, field: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            named_model(body)
        assert [violation.field for violation in refused.value.violations] == [field]
