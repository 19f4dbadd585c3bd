"""docs/history.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from realmultillm.analytics.v1 import chat_history_service_pb2 as history
from realmultillm.errors.v1 import error_reason_pb2

from libs.settings import variables
from libs.worker.history import KEY_SECONDS
from libs.worker.settings import Settings as WorkerSettings
from services.analytics.settings import PREFIX, Settings
from tests.unit.test_access_page import code, rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "history.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_parameters_are_those_of_the_proto() -> None:
    told = [name for row in rows(PAGE.split("\n## ", 1)[0])[4:] for name in code(row[0])]
    assert told == [field.json_name for field in history.ListChatRecordsRequest.DESCRIPTOR.fields]


def test_fields_are_those_of_the_proto() -> None:
    told = set(code(PAGE.split("A record has the ")[1].split("\n\n")[0]))
    assert told <= {field.json_name for field in history.ChatRecord.DESCRIPTOR.fields}


def test_settings_are_those_there_are() -> None:
    there = {name for name, *_ in variables(Settings, PREFIX)}
    there |= {name for name, *_ in variables(WorkerSettings, "WORKER")}
    told = set(re.findall(r"\b(?:ANALYTICS|WORKER)_[A-Z_]+\b", PAGE))
    assert told
    assert told <= there


def test_how_long_a_key_may_take_is_told() -> None:
    assert KEY_SECONDS == 2.0
    assert "in two seconds" in PAGE


def test_reasons_are_those_there_are() -> None:
    for reason, status, _ in rows(section("Errors")):
        (name,) = code(reason)
        assert error_reason_pb2.ErrorReason.Value(name)
        assert int(status) in (400, 403, 404, 503)
