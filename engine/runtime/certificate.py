"""The certificate of one front end's life: made at its start, known to its children, gone.

The key exists in the memory of the front end only. The ssl module reads keys from files, so
it is given the ends of two pipes.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.runtime.dialling import FRONT_END

#: Longer than a front end lives. Trust ends with the process, not with the certificate.
_VALID: Final = timedelta(days=3650)

#: How far the clock of another machine may be behind ours.
_CLOCK_SKEW: Final = timedelta(days=1)


def make_certificate() -> tuple[str, ssl.SSLContext]:
    """A new self-signed certificate as PEM, and the server's context that holds its key."""
    certificate, secret = self_signed(FRONT_END)
    return certificate.decode(), _server(certificate, secret)


def self_signed(host: str, *addresses: str) -> tuple[bytes, bytes]:
    """A new self-signed certificate of a host and its IP addresses, and its key, as PEM."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    names = [x509.DNSName(host), *(x509.IPAddress(ip_address(each)) for each in addresses)]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _server(certificate: bytes, secret: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with _readable(certificate) as first, _readable(secret) as second:
        context.load_cert_chain(first, second)
    return context


@contextmanager
def _readable(data: bytes) -> Iterator[str]:
    """A path that gives these few hundred bytes once, without a file."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)  # far below what a pipe holds
        os.close(writer)
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)
