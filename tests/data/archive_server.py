"""A server of archives that breaks off and goes on as it is told."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tmkt_braincog.data.install import Archive


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; breaks off as often, and after as many bytes, as it says."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path[1:], asked))
        data = server.files.get(self.path[1:])
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if data is None or start >= len(data):
            return self.send_error(404 if data is None else 416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        breaks, server.breaks = server.breaks > 0, server.breaks - 1
        self.wfile.write(data[start : start + 100_000] if breaks else data[start:])
        self.wfile.flush()
        if breaks:
            server.go_on.wait(20)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args):
        super().__init__(*args)
        self.files, self.asked, self.breaks, self.ranges = {}, [], 0, True
        self.go_on = threading.Event()
        self.go_on.set()

    def archive(self, name="data.zip", data=None, md5=None, urls=()):
        """An archive that this server has."""
        if data is not None:
            self.files[name] = data
        urls = tuple(f"http://127.0.0.1:{self.server_port}/{url}" for url in urls or [name])
        return Archive(name, urls, md5 or hashlib.md5(self.files[name]).hexdigest())

    def handle_error(self, request, client_address):
        pass
