"""The worker that has its provider from a row of the catalogue."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from libs.provider_catalog import Catalog, Provider, load_catalog
from libs.settings import SettingsError
from services.workers.openai_compatible.adapter import adapter_of

ROOT = Path(__file__).parents[2]
ROW = Provider(
    id="our-vllm",
    name="Our vLLM",
    endpoint="http://127.0.0.1:8000/v1",
    models=("qwen",),
    max_tokens=1,
    max_context_length=1,
    worker="openai_compatible",
    default_model="qwen",
    answer_limit_field="max_completion_tokens",
    extra_headers={"x-team": "research"},
)
CATALOG: Catalog = {**load_catalog(), "our-vllm": ROW}


class TestAdapter:
    def test_says_what_the_row_says(self) -> None:
        adapter = adapter_of("our-vllm", CATALOG)

        assert (adapter.provider, adapter.display_name) == ("our-vllm", "Our vLLM")
        assert (adapter.endpoint, adapter.default_model) == ("http://127.0.0.1:8000/v1", "qwen")
        assert (adapter.answer_limit_field, adapter.extra_headers) == ("max_completion_tokens", {"x-team": "research"})

    def test_a_provider_that_is_not_there_is_told_with_those_that_are(self) -> None:
        with pytest.raises(SettingsError, match=r"WORKER_PROVIDER names vllm, .*: anthropic, .*, our-vllm\.$"):
            adapter_of("vllm", CATALOG)

    def test_a_provider_with_a_worker_of_its_own_is_refused_by_that_workers_name(self) -> None:
        with pytest.raises(SettingsError, match="names google-ai, whose row names the worker google_ai"):
            adapter_of("google-ai", CATALOG)


class TestStart:
    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({}, "WORKER_PROVIDER is required: Id of the provider"),
            ({"WORKER_PROVIDER": "vllm"}, "WORKER_PROVIDER names vllm, which is not in the catalogue: anthropic, "),
            (
                {"WORKER_PROVIDER": "vllm", "WORKER_CATALOG": "/nowhere.toml"},
                "The provider catalogue /nowhere.toml cannot be read: No such file",
            ),
        ],
    )
    def test_what_is_wrong_is_told_and_nothing_else(self, settings: dict[str, str], told: str) -> None:
        addresses = {f"WORKER_{name}_ADDRESS": "127.0.0.1:1" for name in ("AUTH", "KEY_VAULT", "ANALYTICS")}
        folders = {"WORKER_TLS_DIR": "nowhere", "WORKER_DATA_DIR": "nowhere", "WORKER_LISTEN": "127.0.0.1:0"}

        ended = subprocess.run(
            [sys.executable, "-m", "services.workers.openai_compatible"],
            env={**addresses, **folders, **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert ended.returncode == os.EX_CONFIG
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr
