"""A backend for the examples: answers on loopback with what it received.

    python3 backend.py 9001 9002
"""

import http.server
import json
import sys
import threading


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        name = str(self.server.server_address[1])
        headers = {key.lower(): value for key, value in self.headers.items()}
        received = {"backend": name, "method": self.command, "path": self.path, "headers": headers, "body": body.decode()}
        text = json.dumps(received, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("backend", name)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer


for port in sys.argv[1:]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Echo)
    threading.Thread(target=server.serve_forever).start()
