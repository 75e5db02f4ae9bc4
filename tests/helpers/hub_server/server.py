"""The HTTP side of the test Hub: routing, authentication, a log of every exchange, faults on demand, a second host for
files.
"""

import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from .storage import Refusal, Storage

NO_ANSWER = 0
"""As the status of a fault: the connection is closed without an answer."""


class Exchange(NamedTuple):
    host: str
    """hub or files."""
    method: str
    path: str
    authorized: bool
    status: int


@dataclass
class Fault:
    method: str
    path: re.Pattern[str]
    status: int
    code: str
    message: str
    times: int


Action = Callable[..., None]
ROUTES: list[tuple[tuple[str, ...], re.Pattern[str], Action]] = []


def route(methods: str, pattern: str) -> Callable[[Action], Action]:
    """Register `action(request, *groups)`; `{repo}` in the pattern stands for owner/name."""

    def register(action: Action) -> Action:
        ROUTES.append((tuple(methods.split()), re.compile(pattern.replace("{repo}", r"([\w.-]+/[\w.-]+)")), action))
        return action

    return register


class Request(http.server.BaseHTTPRequestHandler):
    """One exchange; routes read `user`, `query` and `body` and call `reply`."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    """Head and body leave together: apart, each answer waits 40 ms for an acknowledgement."""
    server: "HubListener"  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: `HubServer.log` keeps what tests ask for."""

    @property
    def storage(self) -> Storage:
        return self.server.hub.storage

    @property
    def base(self) -> str:
        return f"http://{self.headers['Host']}"

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def reply(
        self, content: Any = None, *, raw: bytes | None = None, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        data = raw if raw is not None else b"" if content is None else json.dumps(content).encode()
        self.status = status
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def reply_cut(self, content: bytes, headers: dict[str, str]) -> None:
        """The head of a whole answer, half of its bytes, and then nothing."""
        self.send_response(200)
        for name, value in {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(content)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        raise ConnectionAbortedError

    def handle_exchange(self) -> None:
        hub, path = self.server.hub, urlsplit(self.path).path
        self.query, self.body, self.status = parse_qs(urlsplit(self.path).query), self._read_body(), NO_ANSWER
        time.sleep(hub.slow)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.user = hub.tokens.get(token)
        try:
            with hub.lock:
                if token and self.user is None:
                    raise Refusal(401, "", "Invalid credentials in Authorization header")
                self._dispatch(hub, path)
        except Refusal as refusal:
            headers = {
                "X-Error-Message": refusal.message,
                **refusal.headers,
                **({"X-Error-Code": refusal.code} if refusal.code else {}),
            }
            self.reply({"error": refusal.message}, status=refusal.status, headers=headers)
        except ConnectionAbortedError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            hub.log.append(Exchange(self.server.role, self.command, self.path, bool(token), self.status))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_exchange

    def _dispatch(self, hub: "HubServer", path: str) -> None:
        for fault in hub.faults:
            if fault.times and fault.method == self.command and fault.path.search(path):
                fault.times -= 1
                if fault.status == NO_ANSWER:
                    raise ConnectionAbortedError
                raise Refusal(fault.status, fault.code, fault.message)
        for methods, pattern, action in ROUTES:
            if self.command in methods and (match := pattern.fullmatch(path)):
                action(self, *(unquote(group) if group else group for group in match.groups()))
                return
        raise Refusal(404, "", f"Not Found: {path}")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class HubListener(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: "HubServer", role: str) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.hub, self.role = hub, role
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class HubServer:
    """A Hub on a free port of 127.0.0.1. `tokens` maps a token to its user; a user owns the namespace of that name."""

    def __init__(self, root: Path, tokens: dict[str, str]) -> None:
        from . import dataset_routes, git_routes, lfs_routes, repo_routes  # noqa: F401  (they fill ROUTES)

        self.storage, self.tokens, self.lock = Storage(root), tokens, threading.RLock()
        self.log: list[Exchange] = []
        self.faults: list[Fault] = []
        self.multipart_above = 0
        """LFS files of more bytes are sent in parts of this size; 0 for never."""
        self.redirect_files = False
        """Serve files in LFS from the second host, as the real Hub does."""
        self.slow = 0.0
        """Seconds that every exchange takes."""
        self.cut_files = False
        """Close the line in the middle of every file."""
        self.main, self.files = HubListener(self, "hub"), HubListener(self, "files")
        self.url = f"http://127.0.0.1:{self.main.server_port}"
        self.files_url = f"http://localhost:{self.files.server_port}"

    def fail(self, method: str, path: str, status: int, code: str = "", message: str = "", times: int = 1) -> None:
        """Answer the next requests whose path matches with this status instead."""
        self.faults.append(Fault(method, re.compile(path), status, code, message, times))

    def tamper(self, repo: str, path: str) -> None:
        """Serve other bytes of the same size; the listing keeps the right digest."""
        self.storage.tampered.add(self.storage.tree(repo)[path].sha256)

    def sent(self, method: str, path: str) -> list[Exchange]:
        return [exchange for exchange in self.log if exchange.method == method and re.search(path, exchange.path)]

    def stop(self) -> None:
        for listener in (self.main, self.files):
            listener.shutdown()
            listener.server_close()
