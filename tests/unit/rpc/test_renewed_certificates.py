"""Certificates are renewed while a service runs: what is new shows the new one, and no call notices."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from deploy.local.pki import issue
from libs.rpc import tls as tls_module
from libs.rpc.certificate_metrics import CertificateCollector
from libs.rpc.channel import open_channel
from libs.rpc.tls import TlsIdentity
from libs.settings import SettingsError
from tests.support.rpc import running
from tests.support.waiting import eventually
from tests.unit.rpc.conftest import POLICY, SERVICE, Echo, nothing

FILES = ("tls.key", "ca.crt", "tls.crt")


def serial(certificate: bytes) -> int:
    return x509.load_pem_x509_certificate(certificate).serial_number


@pytest.fixture(autouse=True)
def looking_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "_LOOK_SECONDS", 0.0)


class Folder:
    """The certificate of one service, which can be renewed by the same authority."""

    def __init__(self, pki: Path, name: str) -> None:
        self._pki, self._name = pki, name
        self.path = pki / name
        issue(pki, [name])

    def renew(self) -> int:
        """Replaces the files, the certificate last; returns its serial number."""
        (self.path / "tls.crt").unlink()
        issue(self._pki, [self._name])
        return serial((self.path / "tls.crt").read_bytes())


@pytest.fixture
def server(tmp_path: Path) -> Folder:
    return Folder(tmp_path, "analytics")


@pytest.fixture
def client(tmp_path: Path) -> Folder:
    return Folder(tmp_path, "envoy")


class TestIdentity:
    def test_is_what_the_files_say(self, client: Folder) -> None:
        identity = TlsIdentity.load(client.path)
        before = identity.material
        assert identity.material is before

        renewed = client.renew()

        assert serial(identity.material.certificate) == renewed != serial(before.certificate)
        assert identity.material is identity.material

    def test_a_half_written_renewal_is_not_used(self, client: Folder, server: Folder) -> None:
        identity = TlsIdentity.load(client.path)
        before = identity.material
        shutil.copy(server.path / "tls.crt", client.path / "tls.crt")

        with capture_logs() as logs:
            assert identity.material is before
            assert identity.material is before

        assert [line["event"] for line in logs] == ["certificate not renewed; the one before is used"]
        shutil.copy(server.path / "tls.key", client.path / "tls.key")
        assert serial(identity.material.certificate) == serial((server.path / "tls.crt").read_bytes())

    @pytest.mark.parametrize("name", FILES)
    def test_goes_on_with_what_it_had_when_a_file_is_gone(self, client: Folder, name: str) -> None:
        identity = TlsIdentity.load(client.path)
        before = identity.material
        (client.path / name).unlink()
        assert identity.material is before

    @pytest.mark.parametrize("name", FILES)
    def test_is_not_begun_with_what_is_no_pem(self, client: Folder, name: str) -> None:
        (client.path / name).write_text("secret, but no PEM")
        with pytest.raises(SettingsError, match="must be PEM") as caught:
            TlsIdentity.load(client.path)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("name", FILES)
    def test_nor_without_a_file(self, client: Folder, name: str) -> None:
        (client.path / name).unlink()
        with pytest.raises(SettingsError, match=name):
            TlsIdentity.load(client.path)

    def test_tells_until_when_it_is_valid(self, client: Folder) -> None:
        metrics = CollectorRegistry()
        metrics.register(CertificateCollector(TlsIdentity.load(client.path)))

        shown = x509.load_pem_x509_certificate((client.path / "tls.crt").read_bytes())
        for name, moment in (("before", shown.not_valid_before_utc), ("after", shown.not_valid_after_utc)):
            assert metrics.get_sample_value(f"realmultillm_certificate_not_{name}_seconds") == moment.timestamp()

    def test_shows_no_key(self, client: Folder) -> None:
        identity = TlsIdentity.load(client.path)
        assert "PRIVATE" not in repr(identity) + repr(identity.material)


class TestCalls:
    async def test_none_notices(self, server: Folder, client: Folder, echo: Echo) -> None:
        """Both sides are renewed again and again under calls; a stream of before the first lasts to its end."""
        ended = asyncio.Event()

        async def hold(_requests: list[bytes], _context: Any) -> None:
            await ended.wait()

        theirs, ours = TlsIdentity.load(server.path), TlsIdentity.load(client.path)
        async with (
            running(theirs, echo.register, policy=POLICY) as address,
            open_channel(address, "analytics", ours) as channel,
        ):
            echo.behavior = hold
            stream = channel.unary_stream(f"/{SERVICE}/unary_stream")(b"held", timeout=60)
            assert await stream.read() == b"held"
            echo.behavior = nothing

            call = channel.unary_unary(f"/{SERVICE}/unary_unary")
            failed: list[grpc.aio.AioRpcError] = []
            answered = 0
            renewing = True

            async def go_on() -> None:
                nonlocal answered
                while renewing:
                    try:
                        answered += await call(b"once more", timeout=20) == b"once more"
                    except grpc.aio.AioRpcError as error:
                        failed.append(error)

            async def how_many() -> int:
                return answered

            async def many_more() -> None:
                wanted = answered + 50
                await eventually(how_many, lambda now: now >= wanted)

            async with asyncio.TaskGroup() as callers:
                for _ in range(8):
                    callers.create_task(go_on())
                for folder in (server, client) * 3:
                    folder.renew()
                    await many_more()
                renewing = False

            assert failed == []
            shown = await _shown_by(address, client.path)
            assert shown == serial((server.path / "tls.crt").read_bytes())
            ended.set()
            assert await stream.read() == b"held"
            assert await stream.read() is grpc.aio.EOF

    async def test_a_channel_begins_anew_only_for_a_new_certificate(self, client: Folder) -> None:
        async with open_channel("127.0.0.1:1", "analytics", TlsIdentity.load(client.path)) as channel:
            before = newest_of(channel)
            assert newest_of(channel) is before
            client.renew()
            assert newest_of(channel) is not before


def newest_of(channel: Any) -> grpc.aio.Channel:
    """Returns the channel inside; what traces calls is around it."""
    newest: grpc.aio.Channel = channel.newest
    return newest


async def _shown_by(address: str, folder: Path) -> int:
    """Returns the serial number of the certificate that a server shows to a new connection."""
    host, port = address.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    return x509.load_der_x509_certificate(der).serial_number
