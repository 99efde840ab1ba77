"""A loopback server that takes uploads as the Hugging Face Hub does."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Every file comes with the commit: none is put into other storage before.
_INLINE = {"uploadMode": "regular", "shouldIgnore": False}


class Hub(ThreadingHTTPServer):
    """`files`: path -> content of what was committed; `tokens` that were sent; what was `created`.

    `refuses`: answer every request with this status.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.created: list[dict[str, Any]] = []
        self.commits = 0
        self.refuses: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        hub, body = self.server, self._body()
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refuses is not None:
            self._answer({"error": "no rights to this name"}, hub.refuses)
        elif self.path == "/api/repos/create":
            hub.created.append(json.loads(body))
            made = json.loads(body)
            self._answer({"url": f"{hub.url}/{made['organization']}/{made['name']}"})
        elif "/preupload/" in self.path:
            files = [{"path": one["path"]} for one in json.loads(body)["files"]]
            self._answer({"files": [one | _INLINE for one in files]})
        elif "/commit/" in self.path:
            self._commit([json.loads(line) for line in body.splitlines()])
            name = self.path.split("/")[3:5]
            self._answer({"commitUrl": f"{hub.url}/{'/'.join(name)}/commit/1", "commitOid": "1"})
        else:
            self._answer({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        if self.server.refuses is not None:
            self._answer({"error": "no rights to this name"}, self.server.refuses)
        else:
            self._answer({"id": "someone/a-model", "sha": "0" * 40, "siblings": []})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        self.server.commits += 1
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: Any, status: int = 200) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
