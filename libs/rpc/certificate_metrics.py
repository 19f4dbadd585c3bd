"""Tells Prometheus how long the certificate that a service shows is valid."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from libs.rpc.tls import TlsIdentity


class CertificateCollector(Collector):
    """Looks at the certificate whenever it is asked, so that a renewal shows, and one that fails does as well."""

    def __init__(self, tls: TlsIdentity) -> None:
        self._tls = tls

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields what there is to tell now, in seconds of the Unix epoch."""
        certificate = x509.load_pem_x509_certificate(self._tls.material.certificate)
        for name, moment in (
            ("not_before", certificate.not_valid_before_utc),
            ("not_after", certificate.not_valid_after_utc),
        ):
            yield GaugeMetricFamily(
                f"realmultillm_certificate_{name}_seconds",
                f"The certificate that is shown is valid {name.replace('_', ' ')} this time.",
                value=moment.timestamp(),
            )
