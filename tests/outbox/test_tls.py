"""Whom a change is told to is proven by a certificate: real TLS, as the configuration makes the sender."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.clock import SystemClock
from reconciler.config import load
from reconciler.errors import ConfigurationError
from reconciler.ledger.subscriptions import Subscription
from reconciler.outbox.configured import sender_of
from reconciler.outbox.policy import Answered, NoAnswer
from reconciler.outbox.sending import trial_message
from reconciler.outbox.signing import Signer
from tests.outbox.harness import SECRET, Receiver


@dataclass(frozen=True, slots=True)
class Authority:
    """One that signs certificates; whether anybody believes it is another matter."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def found(cls, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, key, name, key, timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        return cls(key, made.sign(key, hashes.SHA256()))

    def write(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def context(
        self, folder: Path, *, address: str = "127.0.0.1", lasts: timedelta = timedelta(days=1)
    ) -> ssl.SSLContext:
        """A server's, with a certificate for that address."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.IPAddress(ipaddress.ip_address(address))
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        made = _certificate("erp", key, str(issuer), self.key, lasts).add_extension(
            x509.SubjectAlternativeName([name]), critical=False
        )
        chain = folder / "server.pem"
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    lasts: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def told(tmp_path: Path, serving: ssl.SSLContext, *, believed: Path | None) -> tuple[Receiver, Answered | NoAnswer]:
    """What comes of one request to a receiver that shows its certificate."""
    path = tmp_path / "config.toml"
    trusted = "" if believed is None else f'trusted_certificates = "{believed}"'
    path.write_text(f'[outbox]\nallowed_networks = ["127.0.0.0/8"]\n{trusted}\n', encoding="utf-8")
    config, clock, receiver = load(path, {}), SystemClock(), Receiver()

    async def story() -> Answered | NoAnswer:
        async with AsyncExitStack() as stack:
            server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=serving)
            stack.callback(server.close)
            sender = sender_of(stack, config, clock)
            erp = Subscription("erp", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook")
            _, answer = await sender.send(erp, trial_message(erp, clock.now()), Signer([SECRET]))
            return answer

    return receiver, asyncio.run(story())


def test_an_authority_that_the_operator_believes_is_believed(tmp_path: Path) -> None:
    ours = Authority.found("ours")
    receiver, answer = told(tmp_path, ours.context(tmp_path), believed=ours.write(tmp_path / "ours.pem"))
    assert answer == Answered(200)
    assert [each.message["type"] for each in receiver.told] == ["subscription.test"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nobody believes it", "CERTIFICATE_VERIFY_FAILED"),
        ("another is believed", "CERTIFICATE_VERIFY_FAILED"),
        ("it is for another address", "IP address mismatch"),
        ("it has run out", "certificate has expired"),
    ],
)
def test_whoever_cannot_prove_who_they_are_is_told_nothing(tmp_path: Path, fault: str, words: str) -> None:
    ours, theirs = Authority.found("ours"), Authority.found("theirs")
    believed: Path | None = ours.write(tmp_path / "ours.pem")
    serving = ours.context(tmp_path)
    match fault:
        case "nobody believes it":
            believed = None
        case "another is believed":
            serving = theirs.context(tmp_path)
        case "it is for another address":
            serving = ours.context(tmp_path, address="127.0.0.2")
        case "it has run out":
            serving = ours.context(tmp_path, lasts=timedelta(days=-1))
    receiver, answer = told(tmp_path, serving, believed=believed)
    assert isinstance(answer, NoAnswer)
    assert words in answer.error, "the log says what is wrong"
    assert receiver.connections == 0, "not a byte of the request was sent"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_without_certificates_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    empty = tmp_path / "none.pem"
    if content is not None:
        empty.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"outbox\.trusted_certificates \(.*line 3\): no certificates"):
        told(tmp_path, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), believed=empty)
