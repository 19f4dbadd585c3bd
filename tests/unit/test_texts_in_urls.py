"""What callers choose and providers get in a URL, tokens of pages and names of models, stays where it belongs.

For every adapter there is: whatever the text, the request goes to the path and with the query parameters that an
innocent one would have.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from libs.errors import ModelNotFound
from libs.provider_catalog import GENERIC_WORKER, Provider, load_catalog
from libs.provider_endpoints import EndpointRules
from libs.provider_keys import ProviderKey
from libs.worker.adapter import Adapter, ProviderRequest
from libs.worker.upstream import Upstream
from services.workers.openai_compatible.adapter import adapter_of

KEY = ProviderKey("sk-the-key-of-the-person")


def _adapter(row: Provider) -> Adapter:
    if row.worker == GENERIC_WORKER:
        return adapter_of(row.id, {row.id: row})
    found: Adapter = import_module(f"services.workers.{row.worker}.adapter").ADAPTER
    return found


_GENERIC = Provider(
    id="our-vllm",
    name="Our vLLM",
    endpoint="http://vllm/v1",
    models=("a",),
    max_tokens=1,
    max_context_length=1,
    worker=GENERIC_WORKER,
    default_model="a",
)
ADAPTERS = {row.id: _adapter(row) for row in (*load_catalog().values(), _GENERIC)}
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)

# All texts that a protobuf string can hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
hostile = st.one_of(
    texts,
    st.lists(
        st.sampled_from(["/", "..", "?", "#", "&", "=", "%2f", "%", "key", "\\", "@", ":", ";", " ", "\r\n", "\0"])
    ).map("".join),
)


def sent(adapter: Adapter, request: ProviderRequest) -> tuple[str, str, dict[str, list[str]]]:
    """Returns what goes over the wire: the host, the path and the parameters of the query."""
    url = URL(adapter.endpoint + request.path, encoded=True)
    wire = url.raw_path_qs
    assert wire.isascii()
    assert not set(wire) & set(" \r\n\t\0#\\")
    assert url.raw_fragment == ""
    return (
        str(url.origin()),
        url.raw_path,
        parse_qs(url.raw_query_string, keep_blank_values=True, strict_parsing=bool(url.raw_query_string)),
    )


class TestPageToken:
    @every_adapter
    @given(token=hostile.filter(bool))
    @example(token="../../v1/keys?x=1")
    @example(token="a&limit=1000&key=b")
    @example(token="a#b")
    @example(token="%2e%2e%2f")
    @example(token="\r\nx-api-key: b\r\n")
    def test_is_a_value_of_the_query_or_not_sent(self, adapter: Adapter, token: str) -> None:
        innocent = adapter.models_request(KEY, 50, "abc")
        request = adapter.models_request(KEY, 50, token)

        host, path, query = sent(adapter, request)
        innocent_host, innocent_path, innocent_query = sent(adapter, innocent)
        assert (request.method, request.body, request.headers) == (innocent.method, innocent.body, innocent.headers)
        assert (host, path) == (innocent_host, innocent_path)
        assert query == {name: [token] if value == ["abc"] else value for name, value in innocent_query.items()}

    @every_adapter
    def test_the_key_is_in_no_url(self, adapter: Adapter) -> None:
        for request in (
            adapter.models_request(KEY, 50, "abc"),
            adapter.key_test_request(KEY, ""),
            adapter.key_test_request(KEY, "model"),
        ):
            assert KEY.reveal() not in unquote(request.path)
            assert any(KEY.reveal() in value for value in request.headers.values())


class TestModelOfAKeyTest:
    @every_adapter
    # `try_key` lets no model pass that is one of these.
    @given(model=hostile.filter(lambda text: text and {".", ".."}.isdisjoint(text.split("/"))))
    @example(model="../chat?x=1")
    @example(model="a b#c")
    @example(model="%2e%2e")
    def test_is_one_part_of_the_path(self, adapter: Adapter, model: str) -> None:
        innocent = sent(adapter, adapter.key_test_request(KEY, "abc"))
        try:
            request = adapter.key_test_request(KEY, model)
        except ModelNotFound:
            return  # where no model can have such a name

        host, path, query = sent(adapter, request)
        assert (host, query) == (innocent[0], innocent[2])
        parts, innocent_parts = path.split("/"), innocent[1].split("/")
        assert parts[:-1] == innocent_parts[:-1]
        assert unquote(parts[-1]) in (model, innocent_parts[-1])


class Unplugged:
    """Stands in for the HTTP session: nothing is ever sent."""

    def request(self, method: str, url: URL, **options: Any) -> None:
        raise ConnectionError(str(url))


class TestMemory:
    async def test_does_not_grow_with_the_texts_that_callers_think_of(self) -> None:
        adapter = ADAPTERS["openai"]
        session = cast(Any, Unplugged())
        rules = EndpointRules()
        upstream = Upstream(adapter, adapter.endpoint, session, 1, rules=rules, private_session=session)
        for number in range(5_000):
            with pytest.raises(ConnectionError, match=rf"/models/model-{number}$"):
                await upstream.fetch(adapter.key_test_request(KEY, f"model-{number}"), 1)
        assert len(upstream._own._urls) <= 1_000
