"""A judge on this machine for tests: an HTTP server that speaks OpenAI's chat completions, or fails as it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[int, dict[str, Any]], Any]
"""From the number of a request, from 0, and its body: a text to reply, or (status, headers, body)."""


class JudgeServer:
    """url: value of --judge-url. requests: bodies of all requests. headers: those of the last request."""

    def __init__(self, script: Script) -> None:
        self.script, self.requests, self.headers = script, list[dict[str, Any]](), dict[str, str]()
        self.lock = threading.Lock()
        self.url = ""

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            number = len(self.requests)
            self.requests.append({"path": handler.path, **body})
            self.headers = dict(handler.headers)
        answer = self.script(number, body)
        if answer is None:  # no answer, longer than any test waits
            threading.Event().wait(1.0)
            return
        if isinstance(answer, str):
            message = {"role": "assistant", "content": answer}
            answer = (200, {}, json.dumps({"model": "judge-2026", "choices": [{"message": message}]}))
        status, headers, text = answer
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text.encode())


@contextmanager
def judge_server(script: Script) -> Iterator[JudgeServer]:
    """A server that answers by `script` until the block ends."""
    judge = JudgeServer(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            judge.respond(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def right_or_not(_: int, body: dict[str, Any]) -> str:
    """A judge that says yes and 4 where the prediction holds the right answer, else no and 1; and repeats captions."""
    text = body["messages"][-1]["content"]
    if "detailed description: " in text:
        return str(text.split("detailed description: ")[1].split(", question:")[0])
    answer = text.split("Correct Answer: ")[1].split("\n")[0]
    prediction = text.split("Predicted Answer: ")[1].split("\n\n")[0]
    return "{'pred': 'yes', 'score': 4}" if answer in prediction else "{'pred': 'no', 'score': 1}"
