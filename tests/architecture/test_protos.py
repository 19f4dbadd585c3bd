"""How the protos are written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from proto.generate import PROTO
from tests.architecture import descriptors
from tests.architecture.source_code import ROOT

INTEGERS_THAT_JSON_MAKES_STRINGS = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}

PUBLIC_METHODS = [method for method in descriptors.methods() if descriptors.is_public(method)]


def reachable(message: Descriptor, seen: set[str] | None = None) -> Iterator[Descriptor]:
    """Lists a message and all messages within it."""
    seen = set() if seen is None else seen
    if message.full_name not in seen and message.full_name.startswith("realmultillm."):
        seen.add(message.full_name)
        yield message
        for field in message.fields:
            if field.message_type is not None:
                yield from reachable(field.message_type, seen)


def http(method: MethodDescriptor) -> tuple[str, str]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return verb, getattr(rule, verb)


class TestStubs:
    def test_are_those_of_the_protos(self) -> None:
        command = [sys.executable, "-m", "proto.generate", "--check"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def test_lint_is_clean(self, tmp_path: Path) -> None:
        target = tmp_path / "all.binpb"
        descriptors.build(target)
        buf = Path(sys.executable).with_name("buf")
        command = [str(buf), "lint", f"{target}#format=binpb", "--config", str(PROTO / "buf.yaml")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class TestComments:
    def test_everything_has_one(self) -> None:
        names = list(descriptors.described())
        assert len(names) > 200
        assert [name for name in names if name not in descriptors.comments()] == []

    def test_services_and_methods_are_told_in_sentences(self) -> None:
        for name, comment in descriptors.comments().items():
            assert comment.strip().endswith((".", ":", "STANDARD_NAME")), name


class TestFields:
    @pytest.mark.parametrize("message", descriptors.messages(), ids=lambda message: message.full_name)
    def test_each_says_how_it_behaves(self, message: Descriptor) -> None:
        silent = [
            field.name
            for field in message.fields
            if not field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        ]
        assert silent == []

    @pytest.mark.parametrize("method", PUBLIC_METHODS, ids=lambda method: method.full_name)
    def test_no_public_answer_holds_an_integer_that_json_makes_a_string(self, method: MethodDescriptor) -> None:
        found = [
            field.full_name
            for message in reachable(method.output_type)
            for field in message.fields
            if field.type in INTEGERS_THAT_JSON_MAKES_STRINGS
        ]
        assert found == []

    @pytest.mark.parametrize("message", descriptors.messages(), ids=lambda message: message.full_name)
    def test_names_are_lower_camel_but_in_the_wire_format_of_openai(self, message: Descriptor) -> None:
        if not message.full_name.startswith("realmultillm.chat.v1."):
            assert [field.name for field in message.fields if "_" in field.json_name] == []

    @pytest.mark.parametrize("message", descriptors.messages(), ids=lambda message: message.full_name)
    def test_a_secret_that_is_stored_is_never_answered_to_people(self, message: Descriptor) -> None:
        public = {found.full_name for method in PUBLIC_METHODS for found in reachable(method.output_type)}
        if message.full_name in public:
            assert not {"api_key", "password", "secret"} & set(message.fields_by_name)


class TestLists:
    @pytest.mark.parametrize(
        "method",
        [method for method in descriptors.methods() if method.name.startswith("List")],
        ids=lambda method: method.full_name,
    )
    def test_each_has_pages(self, method: MethodDescriptor) -> None:
        request, answer = method.input_type.fields_by_name, method.output_type
        assert request["page_size"].type == FieldDescriptor.TYPE_INT32
        assert request["page_token"].type == FieldDescriptor.TYPE_STRING
        assert answer.fields_by_number[1].is_repeated
        assert answer.fields_by_name["next_page_token"].type == FieldDescriptor.TYPE_STRING


class TestBindings:
    @pytest.mark.parametrize("service", descriptors.services(), ids=lambda service: service.full_name)
    def test_a_service_is_internal_or_public_and_says_so(self, service: ServiceDescriptor) -> None:
        internal = "Internal: has no HTTP binding" in " ".join(descriptors.comments()[service.full_name].split())
        public = [method.name for method in service.methods if descriptors.is_public(method)]
        assert bool(public) is not internal

    def test_no_two_methods_have_one_address(self) -> None:
        bindings = [http(method) for method in PUBLIC_METHODS]
        assert len(bindings) == len(set(bindings))

    def test_addresses_are_those_of_the_public_api(self) -> None:
        for method in PUBLIC_METHODS:
            assert http(method)[1].startswith(("/api/", "/v1/")), method.full_name
