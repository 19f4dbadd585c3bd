"""The catalogue of providers and its pages."""

import pytest

from libs.errors import InvalidRequest
from libs.providers import PROVIDERS
from services.provider_router.catalog import Provider, load_catalog, page_of


class TestCatalog:
    def test_holds_every_provider_once_in_order(self) -> None:
        assert [provider.id for provider in load_catalog()] == sorted(PROVIDERS)

    def test_every_provider_is_described(self) -> None:
        for provider in load_catalog():
            assert provider.name
            assert provider.endpoint.startswith("https://")
            assert not provider.endpoint.endswith("/")
            assert 0 < provider.max_tokens <= provider.max_context_length
            assert provider.models
            assert len(set(provider.models)) == len(provider.models)


class TestPages:
    def test_everything_comes_in_one_page_by_default(self) -> None:
        catalog = load_catalog()

        assert page_of(catalog, page_size=0, page_token="") == (list(catalog), "")

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

        assert collected == list(catalog)

    def test_every_broken_rule_is_told_at_once(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            page_of(load_catalog(), page_size=-1, page_token="forged")

        assert [violation.field for violation in refused.value.violations] == ["pageSize", "pageToken"]
