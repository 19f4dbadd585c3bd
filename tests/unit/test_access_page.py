"""docs/access.md says what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from google.rpc import code_pb2
from realmultillm.errors.v1 import error_reason_pb2

from libs.ratelimit import INVALID_TOKENS, limits_of
from libs.rpc.access_policy import DEFAULT_LIMIT, SCOPES
from libs.settings import variables
from services.auth.settings import PREFIX, Settings
from tests.architecture.deployables import DEPLOYABLES, policy
from tests.architecture.source_code import modules

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text()

ACTION = re.compile(
    r"(auth|chat_history|user|provider_config|platform_config|provider_key|encryption_key|rate_limit|access)\.[a-z_]+"
)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """Returns the cells of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    heads = {before for before, after in zip(text.splitlines(), text.splitlines()[1:], strict=False) if "---" in after}
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line not in heads]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


class TestScopes:
    def test_are_those_there_are(self) -> None:
        assert [code(row[0])[0] for row in rows(section("API tokens"))] == list(SCOPES)


class TestLimits:
    def test_are_those_of_the_access_tables(self) -> None:
        special = {
            method.rpartition("/")[2]: rule.limit
            for deployable in DEPLOYABLES
            for method, rule in policy(deployable).items()
            if rule.limit not in (None, DEFAULT_LIMIT)
        }
        told = {name: row[1] for row in rows(section("Limits")) for name in code(row[0])}
        invalid = limits_of(policy("worker"), {})[INVALID_TOKENS]
        assert told.pop(INVALID_TOKENS) == str(invalid).replace(" requests", "")
        assert told == {name: limit.replace("/", " a ") for name, limit in special.items() if limit}
        assert rows(section("Limits"))[0][1] == DEFAULT_LIMIT.replace("/", " a ")


class TestAuditActions:
    def test_are_those_in_the_code(self) -> None:
        told = {name for row in rows(section("The audit log")) for name in code(row[0])}
        # Whatever is of the form of an action is one: it may have gone through a variable on its way to the log.
        found = {
            node.value
            for module in modules("libs", "services")
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ACTION.fullmatch(node.value)
        }
        assert found == told


class TestErrors:
    @pytest.mark.parametrize("row", rows(section("Errors")), ids=lambda row: row[0])
    def test_reasons_and_statuses_are_those_of_the_proto(self, row: list[str]) -> None:
        http = {
            code_pb2.UNAUTHENTICATED: "401",
            code_pb2.PERMISSION_DENIED: "403",
            code_pb2.ALREADY_EXISTS: "409",
            code_pb2.FAILED_PRECONDITION: "400",
            code_pb2.RESOURCE_EXHAUSTED: "429",
        }
        (reason,) = code(row[0])
        assert error_reason_pb2.ErrorReason.Value(reason)
        proto = (Path(__file__).parents[2] / "proto/realmultillm/errors/v1/error_reason.proto").read_text()
        comment = proto[: proto.index(f"  {reason} = ")].rpartition(";\n")[2]
        (status,) = re.findall(r"Status ([A-Z_]+)", comment)
        assert http[code_pb2.Code.Value(status)] == row[1]


class TestSettings:
    def test_lifetimes_are_the_defaults(self) -> None:
        told = {name: days for days, name in re.findall(r"(\d+) days after [a-z\- ]+ \(`(AUTH_[A-Z_]+)`\)", PAGE)}
        defaults = {name: default for name, _, _, default in variables(Settings, PREFIX)}
        assert told == {name: str(defaults[name] // 24) for name in ("AUTH_SESSION_HOURS", "AUTH_SESSION_IDLE_HOURS")}
