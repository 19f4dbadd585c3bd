"""Pictures in `data:` URLs, as RFC 2397 and people write them."""

import pytest

from libs.worker.pictures import Inline, inline, is_linked


class TestInline:
    @pytest.mark.parametrize(
        ("url", "kind"),
        [
            ("data:image/png;base64,aGk=", "image/png"),
            ("data:image/PNG;BASE64,aGk=", "image/png"),
            ("data:image/jpg;base64,aGk=", "image/jpeg"),
            ("data:image/JPG;base64,aGk=", "image/jpeg"),
            ("data:image/webp;name=a.webp;base64,aGk=", "image/webp"),
            ("data:image/x-of-tomorrow;base64,aGk=", "image/x-of-tomorrow"),
        ],
    )
    def test_has_a_kind_and_its_data(self, url: str, kind: str) -> None:
        assert inline(url) == Inline(kind, "aGk=")

    def test_keeps_the_letters_of_the_data(self) -> None:
        found = inline("data:image/png;base64,AbC+/==,x")
        assert found is not None
        assert found.data == "AbC+/==,x"

    @pytest.mark.parametrize(
        "url",
        [
            "https://pictures.example/a.png;base64,aGk=",
            "data:image/png",
            "data:image/png;base64",
            "data:image/png,aGk=",
            "data:image/png;base64;x=y,aGk=",
            "data:image/svg+xml;utf8,<svg/>",
            "data:",
            "",
            f"data:image/png;{';' * 200}base64,aGk=",
        ],
    )
    def test_is_none_where_there_is_no_base64(self, url: str) -> None:
        assert inline(url) is None

    def test_is_not_printed(self) -> None:
        assert "aGk=" not in repr(inline("data:image/png;base64,aGk="))


class TestLinked:
    @pytest.mark.parametrize(("url", "linked"), [("https://a/b.png", True), ("data:image/png;base64,aGk=", False)])
    def test_is_what_stands_elsewhere(self, url: str, linked: bool) -> None:
        assert is_linked(url) is linked
