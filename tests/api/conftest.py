"""A running `hearth serve` for the tests, and small HTTP helpers that show every byte.

HEARTH            the binary
HEARTH_TEST_MODEL a path or catalogue name, or "tiny": a made-up model of random weights
TINY_MODEL        the program that writes that model
"""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

import psutil
import pytest

HEARTH = os.environ["HEARTH"]
MODEL = os.environ.get("HEARTH_TEST_MODEL", "tiny")
LONG = {"max_tokens": 7000, "ignore_eos": True}  # a stream that outlasts what a test does to it
BACKENDS = ["epoll", "select"] if hasattr(__import__("select"), "epoll") else ["select"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, model, *options, env=None, wait=True):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        command = [HEARTH, "serve", "-m", str(model), "--port", str(self.port), "--threads", "2", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, **(env or {})},
                                        stdin=subprocess.DEVNULL, text=True, start_new_session=True)
        os.set_blocking(self.process.stderr.fileno(), False)
        self.log = ""
        if wait:
            self.wait_ready()

    def read_log(self):
        try:
            self.log += self.process.stderr.read() or ""
        except (BlockingIOError, ValueError, TypeError):
            pass
        return self.log

    def wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.read_log()
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("not ready: " + self.read_log())

    def request(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, body bytes) of one request on its own connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        status, headers, data = self.request("POST", path, body, **options)
        return status, headers, json.loads(data)

    def chat(self, content="Hello", **fields):
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}
        return self.post("/v1/chat/completions", body)

    def complete(self, prompt="Hello", **fields):
        return self.post("/v1/completions", {"prompt": prompt, "max_tokens": 8, **fields})

    def socket(self, timeout=30):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def raw(self, data, timeout=30):
        """Everything the server says to these bytes until it closes or falls silent."""
        with self.socket(timeout) as s:
            s.sendall(data)
            return read_all(s)

    def start_stream(self, path="/v1/chat/completions", **fields):
        """A connected socket with a streaming request sent."""
        body = {"messages": [{"role": "user", "content": "Tell me a long story."}], "prompt": "Once",
                "stream": True, "max_tokens": 200, **fields}
        s = self.socket()
        s.sendall(post_bytes(path, json.dumps(body).encode()))
        return s

    def cpu_seconds(self):
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def loop_seconds(self):
        """Processor time of the main thread alone, which runs the event loop."""
        main = next(t for t in psutil.Process(self.process.pid).threads() if t.id == self.process.pid)
        return main.user_time + main.system_time

    def descriptors(self):
        return psutil.Process(self.process.pid).num_fds()

    def settled(self, seconds=10):
        """True once the server uses next to no processor time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = self.cpu_seconds()
            time.sleep(0.4)
            if self.cpu_seconds() - before <= 0.06:
                return True
        print("still at work:", psutil.Process(self.process.pid).threads(), self.get("/slots")[2])
        return False

    def stop(self, number=signal.SIGTERM, seconds=60):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.read_log()
        return status


def post_bytes(path, body, headers=b""):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode() + headers +
            b"\r\n" + body)


def read_all(s):
    data = b""
    try:
        while chunk := s.recv(65536):
            data += chunk
    except (TimeoutError, ConnectionResetError):
        pass
    return data


def read_until(s, mark):
    data = b""
    while mark not in data:
        chunk = s.recv(4096)
        assert chunk, data
        data += chunk
    return data


def events(data):
    """The JSON objects of an SSE body; the last event must be [DONE]."""
    text = data.decode()
    assert text.endswith("data: [DONE]\n\n"), text[-200:]
    found = []
    for event in text.split("\n\n")[:-2]:
        if event.startswith(":"):
            continue
        assert event.startswith("data: "), event
        found.append(json.loads(event[6:]))
    return found


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    if MODEL != "tiny":
        return subprocess.run([HEARTH, "models", "path", MODEL], capture_output=True, text=True, check=True).stdout.strip()
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    # Wide enough for every type of weights, and room for a LONG stream.
    subprocess.run([os.environ["TINY_MODEL"], str(path), "--context", "8192", "--width", "256", "--ff", "512",
                    "--mixed"], check=True)
    return str(path)


@pytest.fixture(scope="session")
def real():
    """Skips where the model is made up and its text means nothing."""
    if MODEL == "tiny":
        pytest.skip("needs a real model")


def watched(server):
    """The server outlives the test that used it."""
    yield server
    assert server.process.poll() is None, server.read_log()
    assert server.get("/health")[0] == 200


@pytest.fixture(scope="session", params=BACKENDS)
def session_server(request, model):
    server = Server(model, "--poll-backend", request.param)
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def server(session_server):
    yield from watched(session_server)


@pytest.fixture(scope="session")
def plain_server(model):
    server = Server(model)
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def one_server(plain_server):
    """For tests to which the loop's backend makes no difference."""
    yield from watched(plain_server)
