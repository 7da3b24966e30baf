"""A web server on the loopback interface that serves one file as well or as badly as a test wants."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served, how, and what was asked for."""

    content: bytes
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    condition: bool = True  # whether If-Range is respected
    cuts: list[int] = field(default_factory=list)  # how many bytes the next answers send before the connection breaks
    status: list[int] = field(default_factory=list)  # of the next answers, instead of the file
    asked: list[str] = field(default_factory=list)  # the Range of each request, or "all"
    port: int = 0

    def address(self, name: str = "last.ckpt") -> str:
        return f"http://127.0.0.1:{self.port}/models/{name}"


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.asked.append(wanted or "all")
            if server.status:
                self.send_response(server.status.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0  # type: ignore[index]
            condition = self.headers.get("If-Range")
            if server.condition and condition not in (None, *server.headers.values()):
                start = 0
            total = len(server.content)
            if start and start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("Content-Length", str(total - start))
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            rest = server.content[start:]
            self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # the other side hung up, and a test wanted it to

    with Quiet(("127.0.0.1", 0), Handler) as httpd:
        server.port = httpd.server_port
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join()
