"""The backend of scripts/demo: writes its port, then what it receives and answers, to files.

    python3 backend.py FOLDER
"""

import http.server
import pathlib
import sys

BODY = b"the backend's body\n"


def as_text(first_line, headers, body):
    fields = "".join(f"{name}: {value}\n" for name, value in headers)
    return f"{first_line}\n{fields}\n{body.decode(errors='replace')}\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        (FOLDER / "request").write_text(as_text(self.requestline, self.headers.items(), body))
        headers = [("content-type", "text/plain"), ("content-length", str(len(BODY)))]
        (FOLDER / "response").write_text(as_text("HTTP/1.1 200 OK", headers, BODY))
        self.send_response_only(200)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(BODY)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


FOLDER = pathlib.Path(sys.argv[1])
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
(FOLDER / "backend.port").write_text(f"{server.server_port}\n")
server.serve_forever()
