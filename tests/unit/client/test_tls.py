"""Whom a client trusts, and what a failed handshake means in words."""

from __future__ import annotations

import pickle
import socket
import ssl
from pathlib import Path

import pytest

from tests.support import tls as certificates
from tick_gateway.client.tls import Secured, TrustError, explain, reason, trust


def test_by_default_certificates_and_names_are_verified() -> None:
    context = trust()
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


def test_insecure_takes_whatever_comes() -> None:
    context = trust(insecure=True)
    assert context.verify_mode is ssl.CERT_NONE and not context.check_hostname


def test_a_file_of_certificates_stands_in_place_of_the_systems(tmp_path: Path) -> None:
    own = certificates.certificate(tmp_path, "IP:127.0.0.1")
    assert len(trust(str(own)).get_ca_certs()) == 1


def test_what_cannot_be_trusted_is_told_by_its_flag(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate\n")
    for file, words in ((tmp_path / "nowhere.pem", "No such file"), (tmp_path / "empty.pem", "holds no certificate")):
        with pytest.raises(TrustError, match=f"--cacert: .*{words}"):
            trust(str(file))
    with pytest.raises(TrustError, match="--cacert contradicts --insecure"):
        trust("x.pem", insecure=True)


def test_a_host_can_be_given_to_another_process_and_its_failure_closes_the_socket(tmp_path: Path) -> None:
    secured = pickle.loads(pickle.dumps(Secured("127.0.0.1", insecure=True)))
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with theirs, pytest.raises(OSError) as caught:
        secured.wrap(ours)
    assert "no TLS is spoken there" in reason(caught.value)
    assert ours.fileno() == -1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("WRONG_VERSION_NUMBER", "no TLS is spoken there; http:// may be meant"),
        ("UNEXPECTED_EOF_WHILE_READING", "the connection was closed during the TLS handshake"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "the TLS handshake failed: sslv3 alert handshake failure"),
    ],
)
def test_failed_handshakes_in_words(name: str, words: str) -> None:
    error = ssl.SSLError(1, name)
    error.reason = name
    assert explain(error) == reason(error) == words


@pytest.mark.parametrize(("code", "hint"), [(18, True), (20, True), (10, False)])
def test_an_unknown_issuer_is_told_how_to_be_known(code: int, hint: bool) -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "something is wrong."
    assert explain(error).startswith("its certificate is not accepted: something is wrong")
    assert ("--cacert names whom to trust" in explain(error)) is hint


def test_other_errors_say_what_the_system_says() -> None:
    assert reason(OSError(111, "Connection refused")) == "Connection refused"
    assert reason(ValueError("whatever")) == "whatever"
