"""The certificate a service shows and the authority it trusts, as cert-manager mounts them; renewed while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.rpc.identity import TRUST_DOMAIN
from libs.settings import SettingsError

log = structlog.get_logger()

_FILES = ("tls.crt", "tls.key", "ca.crt")
# How often the files are looked at, at most, in seconds. A certificate is renewed days before its end.
_LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """Certificate chain, private key and trusted authorities, in PEM."""

    certificate: bytes
    private_key: bytes = field(repr=False)
    authority: bytes


class TlsIdentity:
    """What the files in a folder say: `tls.crt`, `tls.key` and `ca.crt`.

    Whoever renews them may replace one after the other: what does not fit together is not used, and what was used
    before it still is. `clock` is in seconds that never go back.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._seen = _state(folder)
        self._material = _read(folder)
        self._look_at = clock() + _LOOK_SECONDS
        self._problem = ""

    @classmethod
    def load(cls, folder: Path) -> TlsIdentity:
        """Reads the files. Raises SettingsError when one is missing or they are not fit for use."""
        try:
            return cls(folder)
        except (OSError, ValueError) as error:
            raise SettingsError(f"The certificate of this service cannot be used: {error}") from None

    @property
    def material(self) -> TlsMaterial:
        """What to use now. The same object for as long as nothing has changed."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._look()
        return self._material

    @property
    def service(self) -> str:
        """The name of the service that the certificate is of; empty when it is of none of ours."""
        certificate = x509.load_pem_x509_certificate(self.material.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        texts = names.get_values_for_type(x509.UniformResourceIdentifier)
        return next((text.removeprefix(TRUST_DOMAIN) for text in texts if text.startswith(TRUST_DOMAIN)), "")

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that demand a certificate of the same authority from every client.

        What is shown and trusted is the newest when a connection begins; those that are open stay as they are.
        """
        told = self._material

        def newest() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            material = self.material
            if material is told:
                return None
            told = material
            return _server_configuration(material)

        return grpc.dynamic_ssl_server_credentials(
            _server_configuration(told), newest, require_client_authentication=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials that show what is to be shown now, and accept servers of the same authority only."""
        material = self.material
        return grpc.ssl_channel_credentials(
            root_certificates=material.authority,
            private_key=material.private_key,
            certificate_chain=material.certificate,
        )

    def _look(self) -> None:
        try:
            seen = _state(self._folder)
            if seen == self._seen:
                return
            material = _read(self._folder)
        except (OSError, ValueError) as error:
            # Perhaps half of a renewal; a later look will tell.
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("certificate not renewed; the one before is used", problem=self._problem)
            return
        self._seen, self._problem = seen, ""
        if material != self._material:
            self._material = material
            end = x509.load_pem_x509_certificate(material.certificate).not_valid_after_utc
            log.info("certificate renewed", folder=str(self._folder), valid_until=end.isoformat())


def _server_configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key, material.certificate)], root_certificates=material.authority
    )


def _state(folder: Path) -> tuple[tuple[int, int, int], ...]:
    """Returns what changes with the files. Raises OSError."""
    found = [(folder / name).stat() for name in _FILES]
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)


def _read(folder: Path) -> TlsMaterial:
    """Reads the files. Raises OSError, or ValueError when they do not fit together."""
    certificate, private_key, authority = ((folder / name).read_bytes() for name in _FILES)
    try:
        shown = x509.load_pem_x509_certificate(certificate)
        x509.load_pem_x509_certificates(authority)
        key = load_pem_private_key(private_key, password=None)
    except (TypeError, ValueError):  # the texts of these exceptions may quote what they could not read
        raise ValueError(f"{', '.join(_FILES)} in {folder} must be PEM, the key without a password.") from None
    if key.public_key() != shown.public_key():
        raise ValueError(f"tls.key in {folder} is not the key of tls.crt.")
    return TlsMaterial(certificate, private_key, authority)
