"""How the protos are written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from proto.breaking import breaking_changes, last_release
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


RELEASED = """
syntax = "proto3";
package realmultillm.example.v1;
message Example {
  string name = 1;
  int32 size_bytes = 2;
}
"""


class TestCompatibility:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        """A repository of protos with releases."""
        (tmp_path / "proto" / "realmultillm").mkdir(parents=True)
        (tmp_path / "proto" / "realmultillm" / "example.proto").write_text(RELEASED)
        git(tmp_path, "init")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--message=first")
        return tmp_path

    def change(self, repository: Path, before: str, after: str) -> None:
        assert before in RELEASED
        (repository / "proto" / "realmultillm" / "example.proto").write_text(RELEASED.replace(before, after))

    def test_the_last_release_is_that_with_the_highest_number(self, repository: Path) -> None:
        assert last_release(repository) is None
        for tag in ("v0.9.0", "v0.10.0", "v0.10.0-rc1", "nightly"):
            git(repository, "tag", tag)
        assert last_release(repository) == "v0.10.0"

    def test_a_release_elsewhere_is_not_what_this_comes_after(self, repository: Path) -> None:
        git(repository, "tag", "v1.0.0")
        git(repository, "checkout", "-b", "other")
        git(repository, "commit", "--allow-empty", "--message=second")
        git(repository, "tag", "v2.0.0")
        git(repository, "checkout", "--detach", "v1.0.0")
        assert last_release(repository) == "v1.0.0"

    def test_what_is_added_breaks_nothing(self, repository: Path) -> None:
        git(repository, "tag", "v1.0.0")
        self.change(repository, "size_bytes = 2;", "size_bytes = 2;\n  string city = 3;")
        assert breaking_changes(repository / "proto", "v1.0.0") == ""

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("int32 size_bytes = 2;", "int32 size_bytes = 3;"),
            ("int32 size_bytes", "string size_bytes"),
            # The same on the wire, and another in JSON.
            ("int32 size_bytes", "int32 length_bytes"),
            ("int32 size_bytes = 2;", ""),
        ],
        ids=["another number", "another type", "another name", "deleted"],
    )
    def test_what_breaks_a_client_is_named(self, repository: Path, before: str, after: str) -> None:
        git(repository, "tag", "v1.0.0")
        self.change(repository, before, after)
        found = breaking_changes(repository / "proto", "v1.0.0")
        assert "realmultillm/example.proto" in found
        assert "size_bytes" in found

    def test_this_breaks_nothing_of_the_last_release(self) -> None:
        command = [sys.executable, "-m", "proto.breaking"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def git(folder: Path, *arguments: str) -> None:
    """Runs git as nobody in particular, without what this machine has set for it."""
    settings = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", *settings, *arguments], cwd=folder, env=environment, capture_output=True, check=True)


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
