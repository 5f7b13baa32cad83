"""Certificates that a test makes for itself, with OpenSSL's own command."""

import ssl
import subprocess
from pathlib import Path

from tests import needs


def certificate(folder: Path, *names: str, name: str = "server") -> Path:
    """Gives a file with a key and its self-signed certificate for `names`, as OpenSSL writes them: `IP:127.0.0.1`."""
    key, found = folder / f"{name}.key", folder / f"{name}.pem"
    command = [needs.program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=a test", "-addext", f"subjectAltName={','.join(names)}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(found)], check=True, capture_output=True, timeout=60)
    found.write_text(found.read_text() + key.read_text())
    return found


def serving(found: Path) -> ssl.SSLContext:
    """A server's context, with what `certificate` made."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found)
    return context
