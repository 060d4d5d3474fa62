"""A door before a server: passes on what it is asked, or answers in its place, also with TLS."""

from __future__ import annotations

import ssl
import subprocess
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

OWN = ("connection", "content-length", "transfer-encoding", "date", "server")  # headers of each connection


class Certificate(NamedTuple):
    """A self-signed certificate with its key."""

    file: Path
    key: Path


def certificate(folder: Path) -> Certificate:
    """Makes a certificate for 127.0.0.1, as somebody does who sets up a server."""
    certificate = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(certificate.key), "-out", str(certificate.file)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate


class Door(ThreadingHTTPServer):
    """What clients reach on a port of its own.

    Args:
        behind: The port of the server behind it; None if it answers everything itself.
        shown: The certificate that it shows; without one it does not speak TLS.
        wanted: The certificate that clients must show.
    """

    daemon_threads = True

    def __init__(
        self, behind: int | None = None, shown: Certificate | None = None, wanted: Certificate | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.behind = behind
        self.answer: tuple[int, str] | None = None  # status and body in place of what is behind
        self.more: dict[str, str] = {}  # headers of that answer
        self.refused = ""  # the end of paths that nobody may ask
        self.own_name = ""  # by which it wants to be asked, as MLflow's server does
        self.headers: dict[str, str] = {}  # of the last visit
        self.address = f"http{'s' if shown else ''}://127.0.0.1:{self.server_port}"
        if shown is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(shown.file, shown.key)
            if wanted is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(wanted.file)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_close(self) -> None:
        """Ends it."""
        self.shutdown()
        super().server_close()

    def handle_error(self, *_: object) -> None:
        """A client that goes away, or shows no certificate, is no news."""


class Visit(BaseHTTPRequestHandler):
    """One connection."""

    server: Door
    protocol_version = "HTTP/1.1"

    def visit(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.headers = {name.lower(): value for name, value in self.headers.items()}
        if self.server.own_name not in self.headers["Host"]:
            self._reply(403, {}, b"Invalid Host header")
            return
        if self.server.answer is not None:
            status, body = self.server.answer
            self._reply(status, self.server.more, body.encode())
            return
        if self.server.refused and self.path.endswith(self.server.refused):
            self._reply(403, {}, b"no")
            return
        assert self.server.behind is not None
        connection = HTTPConnection("127.0.0.1", self.server.behind)
        connection.request(self.command, self.path, content, dict(self.headers.items()))
        answer = connection.getresponse()
        self._reply(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = visit  # noqa: N815

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
