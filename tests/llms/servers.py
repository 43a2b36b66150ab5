"""Small servers on loopback: well-behaved ones, and such as no server should be."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}
FINE: Answer = (200, JSON, b'{"fine": true}')


@contextmanager
def serving(answer: Callable[[int], Answer]) -> Iterator[tuple[str, list[str]]]:
    """Serve on loopback: `answer` is called with the number of the request, from 0."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self.path)
            status, headers, body = answer(len(seen) - 1)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def talking(talk: Callable[[socket.socket, str], None]) -> Iterator[tuple[str, list[str]]]:
    """Serve on loopback: `talk` has the socket to itself, after a request for a path was read."""
    seen: list[str] = []
    open_: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            read = connection.makefile("rb")
            path = read.readline().decode().split()[1]
            length = 0
            while line := read.readline().strip():
                name, _, value = line.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
            read.read(length)
            seen.append(path)
            talk(connection, path)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", seen
        finally:
            for end in (listener, *open_):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def model_server(reply: Callable[[str], Answer | str]) -> Iterator[tuple[str, list[str]]]:
    """Serve a model "m" of 4,096 tokens, words, whose chat answers are `reply`'s to the prompt.

    Yields the endpoint and the prompts that were asked.
    """
    prompts: list[str] = []

    def said(body: dict[str, Any]) -> Answer:
        prompt = body["messages"][-1]["content"]
        prompts.append(prompt)
        answer = reply(prompt)
        return answer if isinstance(answer, tuple) else (200, JSON, completion(answer))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            if self.path == "/v1/models":
                answer: Answer = (200, JSON, b'{"data": [{"id": "m", "max_model_len": 4096}]}')
            elif self.path == "/tokenize":
                count = len(body["messages"][0]["content"].split())
                answer = (200, JSON, json.dumps({"count": count}).encode())
            elif self.path == "/v1/chat/completions":
                answer = said(body)
            else:
                answer = (404, JSON, b"{}")
            status, headers, content = answer
            with suppress(OSError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", prompts
    finally:
        server.shutdown()
        server.socket.close()
        thread.join()


def completion(text: str | None, **message: Any) -> bytes:
    """Make the body of a chat completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": message.pop("finish_reason", "stop"),
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()
