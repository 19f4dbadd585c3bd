"""Which calls the front door has traced, and that nobody outside has a say in it."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from libs.rpc.tls import TlsIdentity
from tests.integration.envoy.conftest import Backends
from tests.support.collector import Collector, collecting
from tests.support.envoy import running_envoy

THEIRS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "them=1"}
# Of Envoy's own, by which a client may ask for a trace.
FORCED = {"x-client-trace-id": "1", "x-envoy-force-trace": "1"}


class TestCollector:
    async def test_may_be_behind_tls(self, backends: Backends, pki_folder: Path, tmp_path: Path) -> None:
        collector = Collector()
        await collector.start(TlsIdentity.load(pki_folder / "operator"))
        try:
            async with (
                running_envoy(
                    tmp_path,
                    pki_folder,
                    backends.addresses,
                    otlp_endpoint=f"https://localhost:{collector.port}",
                    otlp_ca=pki_folder / "envoy" / "ca.crt",
                ) as door,
                door.rest() as rest,
            ):
                answer = await rest.get("/api/auth/session")
                (root, *_) = await collector.trace(answer.headers["x-request-id"])
                assert root.service == "envoy"
        finally:
            await collector.stop()


class TestDecision:
    @pytest.mark.parametrize(("ratio", "flags"), [(1.0, "01"), (0.0, "00")])
    async def test_services_are_told_it(
        self, backends: Backends, pki_folder: Path, tmp_path: Path, ratio: float, flags: str
    ) -> None:
        async with (
            collecting() as collector,
            running_envoy(
                tmp_path, pki_folder, backends.addresses, otlp_endpoint=collector.endpoint, trace_ratio=ratio
            ) as door,
            door.rest() as rest,
        ):
            for headers in ({}, {**THEIRS, **FORCED}):
                answer = await rest.get("/api/auth/session", headers=headers)
            assert uuid.UUID(answer.headers["x-request-id"]).version == 4
            if ratio:
                await collector.when(lambda spans: len(spans) >= 4)

        told = [call.metadata["traceparent"] for call in backends["auth"].asked]
        assert len(told) == 2
        for context in told:
            assert re.fullmatch(f"00-[0-9a-f]{{32}}-[0-9a-f]{{16}}-{flags}", context)
            assert context[3:35] != THEIRS["traceparent"][3:35]
        assert {call.metadata.get("tracestate", "") for call in backends["auth"].asked} == {""}
        assert len(collector.spans) == (4 if ratio else 0)

    async def test_without_a_collector_there_is_none(
        self, backends: Backends, pki_folder: Path, tmp_path: Path
    ) -> None:
        async with running_envoy(tmp_path, pki_folder, backends.addresses) as door, door.rest() as rest:
            await rest.get("/api/auth/session", headers={**THEIRS, **FORCED})

        (call,) = backends["auth"].asked
        assert not {"traceparent", "tracestate"} & call.metadata.keys()
