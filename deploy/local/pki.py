"""The development certificate authority and the certificates it issues, in the layout cert-manager mounts."""

import datetime
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.local.private_files import private_folder, write_private
from libs.rpc.identity import TRUST_DOMAIN

_AUTHORITY_LIFE = datetime.timedelta(days=3650)
# Apple's and the browsers' limit for server certificates is 398 days.
_LEAF_LIFE = datetime.timedelta(days=365)
_RENEW_BEFORE = datetime.timedelta(days=30)
_BACKDATED = datetime.timedelta(minutes=5)


def issue(folder: Path, names: Iterable[str], *, hosts: Mapping[str, Sequence[str]] | None = None) -> None:
    """Makes sure that `folder/<name>` holds `tls.crt`, `tls.key` and `ca.crt`, valid for a month at least.

    The authority itself lives in `folder/authority`; when it is renewed, so is everything else. `hosts` are names in
    DNS by which something is also reached, besides its own and `localhost`.
    """
    private_folder(folder)
    authority = _Authority(folder / "authority")
    for name in names:
        authority.issue(name, folder / name, (hosts or {}).get(name, ()))


class _Authority:
    def __init__(self, folder: Path) -> None:
        stored = _load(folder)
        if stored is None:
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RealMultiLLM development")])
            certificate = (
                _builder(subject, subject, key.public_key(), _AUTHORITY_LIFE)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(signs_certificates=True), critical=True)
                .sign(key, hashes.SHA256())
            )
            _store(folder, certificate, key, certificate)
            stored = certificate, key
        self._certificate, self._key = stored

    def issue(self, name: str, folder: Path, hosts: Sequence[str]) -> None:
        stored = _load(folder)
        if stored is not None and self._issued(stored[0]) and _names(stored[0]).issuperset(hosts):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternatives = x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(TRUST_DOMAIN + name),
                *(x509.DNSName(each) for each in dict.fromkeys((name, "localhost", *hosts))),
                x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
            ]
        )
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            _builder(subject, self._certificate.subject, key.public_key(), _LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(both, critical=False)
            .add_extension(alternatives, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        _store(folder, certificate, key, self._certificate)

    def _issued(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # a wrong issuer and a wrong signature raise different types
            return False
        return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(certificate: x509.Certificate) -> set[str]:
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(alternatives.get_values_for_type(x509.DNSName))


def _load(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """Reads a certificate and its key; None when there is none, it is damaged, or near its end."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), password=None)
    except (OSError, ValueError):
        return None
    if certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < _RENEW_BEFORE:
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return certificate, key


def _store(
    folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> None:
    private_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(folder / "tls.key", private_key)
    write_private(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))
    write_private(folder / "tls.crt", certificate.public_bytes(serialization.Encoding.PEM))
