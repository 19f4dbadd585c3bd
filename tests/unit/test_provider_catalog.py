"""The catalogue of providers: what a row may say, how a wrong one is told, and its pages."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidRequest
from libs.provider_catalog import Provider, check_workers, load_catalog
from libs.providers import is_provider_id, provider_of, worker_service
from libs.settings import SettingsError
from services.provider_router.catalog import page_of

VLLM = {
    "id": '"our-vllm"',
    "name": '"Our vLLM"',
    "endpoint": '"http://127.0.0.1:8000/v1"',
    "models": '["Qwen/Qwen3-8B"]',
    "max_tokens": "8192",
    "max_context_length": "32768",
    "worker": '"openai_compatible"',
    "default_model": '"Qwen/Qwen3-8B"',
}


def row(**fields: str | None) -> str:
    """A row of TOML that is right but for the fields given; None leaves a field out."""
    lines = [f"{name} = {value}" for name, value in {**VLLM, **fields}.items() if value is not None]
    return "\n".join(["[[providers]]", *lines, ""])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.toml"


def refusal(file: Path) -> list[str]:
    """Loads a file that cannot be used and returns what is said of it, line by line."""
    with pytest.raises(SettingsError) as refused:
        load_catalog(file)
    assert str(file) in str(refused.value)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


class TestCatalogOfThePlatform:
    def test_is_ordered_by_id(self) -> None:
        catalog = load_catalog()

        assert list(catalog) == sorted(catalog)
        assert all(provider.id == key for key, provider in catalog.items())

    def test_every_provider_is_reached_over_tls(self) -> None:
        for provider in load_catalog().values():
            assert provider.endpoint.startswith("https://")
            assert provider.max_tokens <= provider.max_context_length


class TestRows:
    def test_the_least_a_row_of_the_generic_worker_needs(self, file: Path) -> None:
        file.write_text(row())

        assert load_catalog(file) == {
            "our-vllm": Provider(
                id="our-vllm",
                name="Our vLLM",
                endpoint="http://127.0.0.1:8000/v1",
                models=("Qwen/Qwen3-8B",),
                max_tokens=8192,
                max_context_length=32768,
                supports_streaming=True,
                supports_system_prompt=True,
                worker="openai_compatible",
                default_model="Qwen/Qwen3-8B",
                answer_limit_field="max_tokens",
                extra_headers={},
            )
        }

    def test_everything_a_row_can_say(self, file: Path) -> None:
        fields = {
            "supports_streaming": "false",
            "answer_limit_field": '"max_completion_tokens"',
            "extra_headers": '{ x-team = "research", x-priority = "0" }',
        }
        file.write_text(row(**fields))

        (provider,) = load_catalog(file).values()

        assert not provider.supports_streaming
        assert provider.answer_limit_field == "max_completion_tokens"
        assert provider.extra_headers == {"x-team": "research", "x-priority": "0"}

    def test_a_worker_of_its_own_is_named_by_the_id(self, file: Path) -> None:
        file.write_text(row(id='"our-model-2"', worker=None, default_model=None))

        assert load_catalog(file)["our-model-2"].worker == "our_model_2"

    def test_rows_come_in_any_order(self, file: Path) -> None:
        file.write_text(row(id='"b"') + row(id='"a"'))

        assert list(load_catalog(file)) == ["a", "b"]


class TestWrongRows:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *[("id", f'"{each}"') for each in ("", "A", "a_b", "a--b", "-a", "a-", "1a", "a.b", "a/b", "auto", "test")],
            ("id", f'"{"a" * 41}"'),
            ("id", "7"),
            ("name", '" "'),
            ("name", '"two\\nlines"'),
            *[
                ("endpoint", f'"{each}"')
                for each in (
                    "",
                    "127.0.0.1:8000/v1",
                    "ftp://host/v1",
                    "https:///v1",
                    "https://host/v1/",
                    "https://user:pass@host/v1",
                    "https://host/v1?key=1",
                    "https://host/v1?",
                    "https://host/v1#a",
                    "https://host:port/v1",
                    "https://host:70000/v1",
                    "https://[::1/v1",
                    "https://ho st/v1",
                    "https://höst/v1",
                )
            ],
            ("models", "[]"),
            ("models", '"a"'),
            ("models", '["a", "a"]'),
            ("models", '["a b"]'),
            ("max_tokens", "0"),
            ("max_tokens", "2147483648"),
            ("max_tokens", "true"),
            ("max_context_length", "1.5"),
            ("supports_streaming", '"yes"'),
            ("default_model", '""'),
            ("answer_limit_field", '"max tokens"'),
            ("extra_headers", '"x-team: a"'),
            ("extra_headers", '{ X-Team = "a" }'),
            ("extra_headers", '{ x-team = "a\\r\\nb: c" }'),
            ("extra_headers", "{ x-team = 1 }"),
            ("extra_headers", '{ authorization = "Bearer a" }'),
        ],
    )
    def test_a_wrong_value_is_told_with_row_and_field(self, file: Path, field: str, value: str) -> None:
        file.write_text(row(id='"before"') + row(**{field: value}))

        (told,) = refusal(file)

        assert told.startswith("row 2")
        assert f": {field} must " in told

    @pytest.mark.parametrize("worker", ["openai-compatible", "../x", "a.b", ""])
    def test_a_worker_must_be_a_package(self, file: Path, worker: str) -> None:
        file.write_text(row(worker=f'"{worker}"', default_model=None))

        assert refusal(file) == ["row 1 (our-vllm): worker must be the name of a package below services/workers"]

    @pytest.mark.parametrize("field", ["id", "name", "endpoint", "models", "max_tokens", "max_context_length"])
    def test_a_missing_field_is_told_with_its_rule(self, file: Path, field: str) -> None:
        file.write_text(row(**{field: None}))

        (told,) = refusal(file)

        assert told.startswith("row 1")
        assert f": {field} is missing; it must be " in told

    def test_the_generic_worker_needs_a_default_model(self, file: Path) -> None:
        file.write_text(row(default_model=None))

        (told,) = refusal(file)

        assert told.startswith("row 1 (our-vllm): default_model is missing")

    @pytest.mark.parametrize(
        ("field", "value"), [("default_model", '"m"'), ("answer_limit_field", '"n"'), ("extra_headers", "{}")]
    )
    def test_what_only_the_generic_worker_reads_is_refused_elsewhere(self, file: Path, field: str, value: str) -> None:
        file.write_text(row(**{"worker": '"our_own"', "default_model": None, field: value}))

        assert refusal(file) == [f'row 1 (our-vllm): {field} is for rows with worker = "openai_compatible" only']

    def test_everything_wrong_is_told_at_once(self, file: Path) -> None:
        file.write_text(row(endpoint='"nowhere"') + row(max_tokens="0", colour='"red"') + "[other]\n")

        assert [told.split(" must ")[0].split(" is not ")[0].split("; ")[0] for told in refusal(file)] == [
            "other",
            "row 1 (our-vllm): endpoint",
            "row 2 (our-vllm): colour",
            "row 2 (our-vllm): max_tokens",
            "row 2 (our-vllm): id stands in a row before",
        ]

    @pytest.mark.parametrize("text", ["", "providers = 7", "providers = [1]", "[providers]"])
    def test_a_file_without_rows_is_refused(self, file: Path, text: str) -> None:
        file.write_text(text)

        assert refusal(file) == ["it must have rows, each under [[providers]]"]

    def test_a_file_that_is_no_toml_is_told_with_the_line(self, file: Path) -> None:
        file.write_text('[[providers]]\nid = "a\n')

        with pytest.raises(SettingsError, match=r"is not a TOML file: .*line 2"):
            load_catalog(file)

    def test_a_file_that_is_no_text_is_refused(self, file: Path) -> None:
        file.write_bytes(b"\xff")

        with pytest.raises(SettingsError, match="is not a TOML file"):
            load_catalog(file)

    def test_a_file_that_is_not_there_is_told_by_its_path(self, file: Path) -> None:
        with pytest.raises(SettingsError, match=r"catalog\.toml cannot be read: No such file"):
            load_catalog(file)


class TestAddressesOfWorkers:
    def test_those_of_providers_of_the_catalogue_are_accepted(self, file: Path) -> None:
        file.write_text(row())

        check_workers("X_WORKERS", {"our-vllm": "a:1"}, load_catalog(file))

    def test_those_of_others_are_refused_by_name(self, file: Path) -> None:
        file.write_text(row())

        with pytest.raises(
            SettingsError, match=r"^X_WORKERS names unknown providers: closedai, openia\. Known are: our-vllm\.$"
        ):
            check_workers("X_WORKERS", {"openia": "a:1", "our-vllm": "b:1", "closedai": "c:1"}, load_catalog(file))


class TestNames:
    @given(st.from_regex(r"[a-z][a-z0-9]{0,10}(-[a-z0-9]{1,9}){0,2}", fullmatch=True).filter(is_provider_id))
    def test_a_worker_is_known_by_its_name(self, provider: str) -> None:
        assert provider_of(worker_service(provider)) == provider

    @pytest.mark.parametrize(
        "service", ["", "openai", "worker", "worker-", "worker-*", "worker-A", "worker-auto", "worker-a\n", "Worker-a"]
    )
    def test_other_names_are_no_workers(self, service: str) -> None:
        assert provider_of(service) is None


class TestPages:
    def test_everything_comes_in_one_page_by_default(self) -> None:
        catalog = load_catalog()

        assert page_of(catalog, page_size=0, page_token="") == (list(catalog.values()), "")

    @pytest.mark.parametrize("page_size", [1, 2, 4, 5, 500, 2**31 - 1])
    def test_the_pages_together_are_the_catalogue(self, page_size: int) -> None:
        catalog, token = load_catalog(), ""
        collected: list[Provider] = []
        while True:
            page, token = page_of(catalog, page_size=page_size, page_token=token)
            assert 0 < len(page) <= page_size
            collected += page
            if not token:
                break

        assert collected == list(catalog.values())

    def test_every_broken_rule_is_told_at_once(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            page_of(load_catalog(), page_size=-1, page_token="forged")

        assert [violation.field for violation in refused.value.violations] == ["pageSize", "pageToken"]


class TestDocumentation:
    PAGE = Path(__file__).parents[2] / "docs" / "add-a-provider.md"

    def test_its_rows_can_be_used_as_they_stand(self, file: Path) -> None:
        rows = re.findall(r"^\[\[providers\]\]\n(?:\w+ = .+\n)+", self.PAGE.read_text(), re.MULTILINE)
        file.write_text("\n".join(rows))

        assert list(load_catalog(file)) == ["our-ollama", "our-server", "our-vllm"]

    def test_it_tells_every_field(self) -> None:
        told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.+?) \|", self.PAGE.read_text(), re.MULTILINE))))

        assert {field.name for field in fields(Provider)} <= told
