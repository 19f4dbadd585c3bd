"""docs/keys.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.rpc import code_pb2
from realmultillm.errors.v1 import error_reason_pb2
from realmultillm.keyvault.v1 import encryption_key_service_pb2 as encryption
from realmultillm.keyvault.v1 import platform_config_service_pb2 as platform
from realmultillm.keyvault.v1 import provider_config_service_pb2 as person

from libs.settings import variables
from libs.worker.settings import Settings as WorkerSettings
from services.key_vault.settings import Settings as KeyVaultSettings
from tests.unit.test_access_page import code, rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "keys.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


class TestFields:
    def test_of_everybodys_configuration_are_those_of_the_proto(self) -> None:
        told = {code(row[0])[0]: row[1] for row in rows(section("For everybody"))}
        fields = platform.SetPlatformConfigRequest.DESCRIPTOR.fields
        assert list(told) == [field.json_name for field in fields]
        # What is not on or off, and not the provider, can be taken back.
        assert code(told["clear"]) == [name for name in told if name not in ("provider", "enabled", "clear")]

    def test_of_ones_own_are_those_of_the_proto(self) -> None:
        stored, changed, *_ = rows(section("Your keys"))
        names = [field.json_name for field in person.UpdateProviderConfigRequest.DESCRIPTOR.fields]
        assert re.findall(r"\w+", code(stored[0])[1]) == [name for name in names if name not in ("provider", "clear")]
        assert code(changed[0])[1:] == ["clear"]


class TestRotation:
    def test_states_are_those_of_the_proto(self) -> None:
        told = [code(row[0])[0] for row in rows(section("Rotation"))]
        assert told == encryption.KeyRotation.State.keys()[1:]

    def test_counts_are_those_of_the_proto(self) -> None:
        told = set(re.findall(r"\b[a-z]+Count\b", section("Rotation")))
        fields = encryption.KeyRotation.DESCRIPTOR.fields
        assert told == {field.json_name for field in fields if field.json_name.endswith("Count")}


class TestSettings:
    def test_are_those_there_are(self) -> None:
        there = {name for name, *_ in variables(KeyVaultSettings, "KEY_VAULT")}
        there |= {name for name, *_ in variables(WorkerSettings, "WORKER")}
        told = set(re.findall(r"\b(?:KEY_VAULT|WORKER)_[A-Z_]+\b", PAGE))
        assert told
        assert told <= there | {f"{name}_FILE" for name in there}

    def test_commands_are_those_there_are(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        targets = re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", PAGE)
        assert targets
        assert [target for target in targets if f"\n{target}:" not in makefile] == []
        for module in re.findall(r"python -m ([a-z_.]+)", PAGE):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


class TestErrors:
    @pytest.mark.parametrize("row", rows(section("Errors")), ids=lambda row: row[0])
    def test_reasons_and_statuses_are_those_of_the_proto(self, row: list[str]) -> None:
        http = {
            code_pb2.INVALID_ARGUMENT: "400",
            code_pb2.FAILED_PRECONDITION: "400",
            code_pb2.PERMISSION_DENIED: "403",
            code_pb2.UNAVAILABLE: "503",
        }
        (reason,) = code(row[0])
        assert error_reason_pb2.ErrorReason.Value(reason)
        proto = (ROOT / "proto/realmultillm/errors/v1/error_reason.proto").read_text()
        comment = proto[: proto.index(f"  {reason} = ")].rpartition(";\n")[2]
        (status,) = re.findall(r"Status ([A-Z_]+)", comment)
        assert http[code_pb2.Code.Value(status)] == row[1]


class TestLinks:
    def test_lead_to_sections_there_are(self) -> None:
        def anchors(page: Path) -> set[str]:
            titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
            return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}

        pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for page in pages:
            for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
                aim = (page.parent / target) if target else page
                assert aim.exists(), (page.name, target)
                assert not anchor or anchor in anchors(aim), (page.name, target, anchor)
