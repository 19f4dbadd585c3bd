"""JSON through protobuf and back: the order, the kinds and the numbers stay."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from realmultillm.chat.v1 import json_object_pb2

from libs.worker.json_object import count_values, json_object, plain

numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda members: st.lists(members, max_size=4) | st.dictionaries(texts, members, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts, values, max_size=6)


class TestRoundTrip:
    @given(objects)
    def test_gives_the_same_text(self, members: dict[str, Any]) -> None:
        back = plain(json_object_pb2.JsonObject.FromString(json_object(members).SerializeToString()))
        assert back == members
        assert list(back) == list(members)

    def test_whole_numbers_stay_whole_and_text(self) -> None:
        schema = '{"minimum": 0, "maximum": 10, "multipleOf": 0.5, "b": [1, {"z": 1, "a": 2}], "a": true}'
        assert json.dumps(plain(json_object(json.loads(schema)))) == schema


class TestWire:
    @given(objects)
    def test_is_that_of_a_struct(self, members: dict[str, Any]) -> None:
        """Envoy knows a JsonObject as a Struct: each must read what the other has written."""
        struct = Struct.FromString(json_object(members).SerializeToString())
        assert MessageToDict(struct) == members
        assert plain(json_object_pb2.JsonObject.FromString(struct.SerializeToString())) == members

    def test_of_a_name_that_stands_twice_the_last_counts(self) -> None:
        twice = json_object({"a": 1})
        twice.members.extend(json_object({"a": 2}).members)
        assert plain(twice) == {"a": 2}

    def test_a_member_without_a_value_is_null(self) -> None:
        wire = json_object_pb2.JsonObject()
        wire.members.add(name="a")
        assert plain(wire) == {"a": None}


class TestCount:
    @given(objects)
    def test_is_that_of_all_members_and_list_values(self, members: dict[str, Any]) -> None:
        def count(value: Any) -> int:
            held = list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
            return len(held) + sum(map(count, held))

        assert count_values(json_object(members), 1_000_000) == count(members)

    def test_stops_soon_after_the_most(self) -> None:
        thousand = json_object({"a": [[[1] * 10] * 10] * 10})
        assert 50 < count_values(thousand, 50) <= 60


class TestDepth:
    def test_that_a_parser_would_refuse_is_refused(self) -> None:
        deep: Any = 1
        for _ in range(28):
            deep = {"a": [deep]} if isinstance(deep, int) else {"a": deep}
        assert plain(json_object_pb2.JsonObject.FromString(json_object(deep).SerializeToString())) == deep
        for levels in (5, 5_000):
            for _ in range(levels):
                deep = {"a": deep}
            with pytest.raises(ValueError, match="too deep"):
                json_object(deep)
