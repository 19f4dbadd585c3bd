"""Settings: every problem is told at once, and no value is told at all."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from libs.redaction import Secret
from libs.rpc.settings import RpcSettings
from libs.settings import SettingsError, from_env, setting, variables


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    url: Secret = setting("Where the data is.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    part: Part
    name: str = setting("What it is called.")
    folder: Path = setting("Where it is.", default=Path("/somewhere"))
    count: int = setting("How many.", at_least=-7, default=3)
    seconds: float = setting("How long.", default=1.5)
    open: bool = setting("Whether.", default=False)
    color: Literal["red", "green"] = setting("Which.", default="red")
    endpoint: str | None = setting("Which, if any.", default=None)
    workers: dict[str, str] = setting("Who.", default_factory=dict)
    origins: tuple[str, ...] = setting("Whence.", default=())


REQUIRED = {"X_URL": "sk-not-shown-0123456789", "X_NAME": "n"}


def read(**variables: str) -> Settings:
    return from_env(Settings, "X", {**REQUIRED, **variables})


def problems(**variables: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        from_env(Settings, "X", variables)
    headline, *lines = str(caught.value).split("\n  ")
    assert headline == "Settings are not usable:"
    return lines


class TestReading:
    def test_defaults_fill_what_is_absent(self) -> None:
        assert read() == Settings(part=Part(url=Secret(REQUIRED["X_URL"])), name="n")

    def test_every_type_is_read(self) -> None:
        settings = read(
            X_FOLDER="/a",
            X_COUNT="-7",
            X_SECONDS="0.25",
            X_OPEN="TRUE",
            X_COLOR="Green",
            X_ENDPOINT="http://h",
            X_WORKERS=" openai=h:1 , grok=h:2?a=b,",
            X_ORIGINS=" https://a , https://b:1,",
        )
        assert settings.part.url.reveal() == REQUIRED["X_URL"]
        assert (settings.folder, settings.count, settings.seconds) == (Path("/a"), -7, 0.25)
        assert (settings.open, settings.color, settings.endpoint) == (True, "green", "http://h")
        assert settings.workers == {"openai": "h:1", "grok": "h:2?a=b"}
        assert settings.origins == ("https://a", "https://b:1")
        assert read(X_ORIGINS="").origins == ()

    def test_a_secret_reads_as_one(self) -> None:
        assert type(read().part.url) is Secret
        assert REQUIRED["X_URL"] not in repr(read())

    def test_other_prefixes_are_nobodys_business(self) -> None:
        assert from_env(Settings, "X", {**REQUIRED, "XY_Z": "1", "PATH": "/bin"}).name == "n"

    def test_the_environment_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in REQUIRED.items():
            monkeypatch.setenv(name, value)
        assert from_env(Settings, "X").name == "n"

    def test_a_part_can_be_read_alone(self) -> None:
        environ = {**REQUIRED, "X_COUNT": "wrong", "X_FOLDER_FILE": "/nowhere"}
        assert from_env(Part, "X", environ, part_of=Settings).url.reveal() == REQUIRED["X_URL"]

    def test_reading_a_part_still_refuses_what_nobody_declares(self) -> None:
        with pytest.raises(SettingsError, match="X_NMAE is not a setting"):
            from_env(Part, "X", {**REQUIRED, "X_NMAE": "n"}, part_of=Settings)


class TestFiles:
    def test_a_value_comes_from_a_file_without_the_line_end(self, tmp_path: Path) -> None:
        (tmp_path / "name").write_text("from a file\r\n")
        assert from_env(Settings, "X", {"X_URL": "u", "X_NAME_FILE": str(tmp_path / "name")}).name == "from a file"

    def test_a_file_is_parsed_like_a_variable(self, tmp_path: Path) -> None:
        (tmp_path / "count").write_text("12\n")
        assert read(X_COUNT_FILE=str(tmp_path / "count")).count == 12

    def test_both_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "name").write_text("n")
        (problem,) = problems(**REQUIRED, X_NAME_FILE=str(tmp_path / "name"))
        assert problem == "X_NAME is given twice; remove X_NAME or X_NAME_FILE"

    @pytest.mark.parametrize("content", [b"", b" \n"])
    def test_an_empty_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "url").write_bytes(content)
        assert problems(X_NAME="n", X_URL_FILE=str(tmp_path / "url")) == ["X_URL must not be empty"]

    def test_a_missing_file_is_told_without_its_path_which_may_be_the_secret(self) -> None:
        (problem,) = problems(X_NAME="n", X_URL_FILE="sk-pasted-in-the-wrong-place")
        assert problem == "X_URL cannot be read from the file that X_URL_FILE names: No such file or directory"

    def test_a_folder_and_a_binary_file_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "binary").write_bytes(b"secret\xff")
        assert problems(X_URL_FILE=str(tmp_path), X_NAME_FILE=str(tmp_path / "binary")) == [
            "X_URL cannot be read from the file that X_URL_FILE names: Is a directory",
            "X_NAME cannot be read from the file that X_NAME_FILE names: it is not UTF-8 text",
        ]


class TestProblems:
    def test_all_are_told_at_once(self) -> None:
        assert problems(X_COUNT="many", X_OPEN="perhaps", X_NMAE="n", X_OTHER="o") == [
            "X_URL is required: Where the data is.",
            "X_NAME is required: What it is called.",
            "X_COUNT must be a whole number",
            "X_OPEN must be true or false",
            "X_NMAE is not a setting; remove or correct it",
            "X_OTHER is not a setting; remove or correct it",
        ]

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("X_COUNT", "1.5", "must be a whole number"),
            ("X_COUNT", "", "must be a whole number"),
            ("X_COUNT", "9" * 5000, "must be a whole number"),
            ("X_COUNT", "-8", "must be at least -7"),
            ("X_SECONDS", "soon", "must be a number"),
            ("X_SECONDS", "nan", "must be a number"),
            ("X_SECONDS", "inf", "must be a number"),
            ("X_OPEN", "yes", "must be true or false"),
            ("X_OPEN", "", "must be true or false"),
            ("X_COLOR", "blue", "must be one of red, green"),
            ("X_ENDPOINT", "", "must not be empty"),
            ("X_FOLDER", "", "must not be empty"),
            ("X_WORKERS", "openai", "must be a list like name=value,name=value"),
            ("X_WORKERS", "openai=", "must be a list like name=value,name=value"),
            ("X_WORKERS", "=h:1", "must be a list like name=value,name=value"),
            ("X_WORKERS", "openai=h:1,openai=h:2", "must not hold a name twice"),
        ],
    )
    def test_a_malformed_value_is_told_by_its_rule(self, name: str, value: str, rule: str) -> None:
        assert problems(**REQUIRED, **{name: value}) == [f"{name} {rule}"]

    def test_no_value_is_echoed(self) -> None:
        names = [name for name, *_ in variables(Settings, "X")]
        text = "\n".join(problems(**dict.fromkeys([*names, "X_UNKNOWN"], "hunter2=,")))
        assert text.count("X_") >= 6
        assert "hunter2" not in text

    def test_the_traceback_does_not_hold_the_value_either(self) -> None:
        with pytest.raises(SettingsError) as caught:
            read(X_COUNT="hunter2")
        error: BaseException | None = caught.value
        while error is not None:
            assert "hunter2" not in str(error)
            error = error.__cause__ or error.__context__

    def test_what_a_setting_cannot_be_is_a_bug_and_not_a_setting_error(self) -> None:
        @dataclasses.dataclass
        class Odd:
            a: list[int]

        with pytest.raises(TypeError, match="settings cannot hold"):
            from_env(Odd, "X", {"X_A": "1"})


class TestReference:
    def test_every_variable_is_listed_with_type_and_default(self) -> None:
        rows = {name: (kind, description, default) for name, kind, description, default in variables(Settings, "X")}
        assert rows["X_URL"] == ("Secret", "Where the data is.", dataclasses.MISSING)
        assert rows["X_COLOR"] == ("red | green", "Which.", "red")
        assert rows["X_WORKERS"] == ("name=value,…", "Who.", {})
        assert rows["X_ORIGINS"] == ("value,…", "Whence.", ())
        assert len(rows) == 10


class TestCommonSettings:
    def test_an_unknown_log_level_and_format_are_told_at_start(self) -> None:
        environ = {"P_LISTEN": "h:1", "P_TLS_DIR": "/t", "P_LOG_LEVEL": "loud", "P_LOG_FORMAT": "xml"}
        with pytest.raises(SettingsError) as caught:
            from_env(RpcSettings, "P", environ)
        assert "P_LOG_LEVEL must be one of debug, info, warning, error" in str(caught.value)
        assert "P_LOG_FORMAT must be one of json, console" in str(caught.value)
