"""Certificates that a test makes for itself, with OpenSSL's own command."""

import ssl
import subprocess
from pathlib import Path

from tests.support import needs


def certificate(folder: Path, *names: str, name: str = "server") -> Path:
    """Gives a file with a key and its self-signed certificate for `names`, as OpenSSL writes them: `IP:127.0.0.1`."""
    key, found = folder / f"{name}.key", folder / f"{name}.pem"
    command = [needs.program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=a test", "-addext", f"subjectAltName={','.join(names)}"]
    _run(*command, "-keyout", key, "-out", found)
    found.write_text(found.read_text() + key.read_text())
    return found


def serving(found: Path) -> ssl.SSLContext:
    """A server's context, with what `certificate` made."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found)
    return context


_EXPIRING = """\
[ca]
default_ca = own
[own]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {names}
"""


def expired(folder: Path, *names: str) -> Path:
    """Gives a file as `certificate` does, of a certificate whose time is over."""
    openssl = needs.program("openssl")
    (folder / "index").touch()
    (folder / "expired.conf").write_text(_EXPIRING.format(folder=folder, names=",".join(names)))
    key, request, found = (folder / f"expired.{end}" for end in ("key", "csr", "pem"))
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a test"]
    _run(openssl, "req", "-new", *made, "-keyout", key, "-out", request)
    signed = ["-selfsign", "-batch", "-notext", "-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
    _run(openssl, "ca", *signed, "-config", folder / "expired.conf", "-keyfile", key, "-in", request, "-out", found)
    found.write_text(found.read_text() + key.read_text())
    return found


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
