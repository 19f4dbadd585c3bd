"""The certificate a service shows and the authority it trusts, as cert-manager mounts them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509

from libs.rpc.identity import TRUST_DOMAIN


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """Certificate chain, private key and trusted authority, in PEM."""

    certificate: bytes
    private_key: bytes = field(repr=False)
    authority: bytes

    @classmethod
    def load(cls, folder: Path) -> TlsIdentity:
        """Reads `tls.crt`, `tls.key` and `ca.crt` from a folder. Raises OSError when one is missing."""
        return cls(
            certificate=(folder / "tls.crt").read_bytes(),
            private_key=(folder / "tls.key").read_bytes(),
            authority=(folder / "ca.crt").read_bytes(),
        )

    @property
    def service(self) -> str:
        """The name of the service that the certificate is of; empty when it is of none of ours."""
        certificate = x509.load_pem_x509_certificate(self.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        texts = names.get_values_for_type(x509.UniformResourceIdentifier)
        return next((text.removeprefix(TRUST_DOMAIN) for text in texts if text.startswith(TRUST_DOMAIN)), "")

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that demand a certificate of the same authority from every client."""
        return grpc.ssl_server_credentials(
            [(self.private_key, self.certificate)], root_certificates=self.authority, require_client_auth=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials that show this identity and accept servers of the same authority only."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.authority, private_key=self.private_key, certificate_chain=self.certificate
        )
