"""A small server that speaks as much of the Hugging Face hub as its client needs to download a data set."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """files: of each commit of each data set. branches: of each, their commits. gated: data sets on request.

    cut: how many bytes of a file are sent before the connection breaks, by path. requests: what was asked for, and
    from which byte on.
    """

    files: dict[str, dict[str, dict[str, bytes]]]
    branches: dict[str, dict[str, str]]
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at `hub.url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if path.startswith("/api/datasets/"):
                owner, name, what, revision = path.removeprefix("/api/datasets/").split("/", 3)
                self.api(f"{owner}/{name}", what, revision)
            elif not path.startswith("/datasets/"):
                self.refuse(404, "")
            else:
                owner, name, _, commit, file = path.removeprefix("/datasets/").split("/", 4)
                self.file(f"{owner}/{name}", commit, file, body)

        def api(self, name: str, what: str, revision: str) -> None:
            if name not in hub.files:
                self.refuse(404, "RepoNotFound")
                return
            commit = hub.branches[name].get(revision, revision)
            if commit not in hub.files[name]:
                self.refuse(404, "RevisionNotFound")
                return
            files = hub.files[name][commit]
            tree = [
                {"type": "file", "path": file, "size": len(content), "oid": digest(content)}
                for file, content in files.items()
            ]
            self.send(200, json.dumps({"id": name, "sha": commit} if what == "revision" else tree).encode(), {})

        def file(self, name: str, commit: str, file: str, body: bool) -> None:
            if name in hub.gated:
                self.refuse(403, "GatedRepo")
                return
            content = hub.files[name][commit][file]
            headers = {"ETag": f'"{digest(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start:
                hub.requests.append(f"PART {start}")
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206 if start else 200, content[start:], headers, body, self.cut(file, start))

        def cut(self, file: str, start: int) -> int | None:
            return max(hub.cut[file] - start, 0) if file in hub.cut else None

        def send(
            self, status: int, content: bytes, headers: dict[str, str], body: bool = True, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content[:cut])
                if cut is not None:
                    self.close_connection = True

        def refuse(self, status: int, code: str) -> None:
            self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def digest(content: bytes) -> str:
    """As git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
