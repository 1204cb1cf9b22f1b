"""What service managers want: sockets that they hold, messages to them, an end when idle."""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import BACKENDS, HEARTH, LONG, Server, post_bytes, read_all, read_until
from test_observe import stopped_worker, until

# What systemd does between fork and exec.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(Server):
    """A server on a socket that the test holds."""

    def __init__(self, listener, model, *options, env=None, wait=True):
        self.port = listener.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(listener.fileno()), HEARTH, "serve", "-m", str(model), "--threads", "2",
             *options], pass_fds=[listener.fileno()], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", **(env or {})}, start_new_session=True)
        os.set_blocking(self.process.stderr.fileno(), False)
        self.log = ""
        if wait:
            self.wait_ready()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=512) as s:
        yield s


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_socket_that_listens_already(model, listener, backend):
    with socket.create_connection(listener.getsockname(), timeout=60) as early:
        early.sendall(post_bytes("/v1/completions", json.dumps({"prompt": "x", "max_tokens": 2}).encode(),
                                 b"Connection: close\r\n"))
        server = Activated(listener, model, "--poll-backend", backend, wait=False)
        answer = read_all(early)
    assert b" 200 " in answer.split(b"\r\n")[0], "it waited for the model"
    assert server.chat()[0] == 200
    assert server.stop() == 0
    assert "the service manager's socket" in server.log


def test_restarts_refuse_nobody(model, listener):
    port, stop, problems, served = listener.getsockname()[1], threading.Event(), [], []

    def client(number):
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
                    body = json.dumps({"prompt": f"client {number}", "max_tokens": 5, "stream": number % 2 == 0,
                                       "ignore_eos": True}).encode()
                    s.sendall(post_bytes("/v1/completions", body, b"Connection: close\r\n"))
                    answer = read_all(s)
                ended = b"[DONE]" in answer if number % 2 == 0 else b'"completion_tokens":5' in answer
                if b" 200 " not in answer[:20] or not ended:
                    problems.append(answer[-300:])
                served.append(number)
            except OSError as error:
                problems.append(repr(error))

    server = Activated(listener, model)
    clients = [threading.Thread(target=client, args=(i,)) for i in range(6)]
    for thread in clients:
        thread.start()
    for _ in range(4):
        n = len(served)
        until(lambda: len(served) > n + 10 or problems, 60)
        assert server.stop() == 0, server.log
        server = Activated(listener, model, wait=False)
    n = len(served)
    until(lambda: len(served) > n + 10 or problems, 60)
    stop.set()
    for thread in clients:
        thread.join()
    assert server.stop() == 0
    assert not problems, problems[:3]


def test_a_request_that_is_half_there_is_served(model, listener):
    server = Activated(listener, model)
    request = post_bytes("/v1/completions", json.dumps({"prompt": "x", "max_tokens": 2}).encode())
    with socket.create_connection(listener.getsockname(), timeout=60) as s:
        s.sendall(request[:-5])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        s.sendall(request[-5:])
        assert b" 200 " in read_all(s)[:20]
    assert server.process.wait(20) == 0


def test_a_connection_that_says_nothing_does_not_hold_the_end(model, listener):
    server = Activated(listener, model)
    with socket.create_connection(listener.getsockname()):
        time.sleep(0.2)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8


def test_sockets_for_somebody_else(model, listener):
    """LISTEN_PID names another process: a child must not take them."""
    server = Server(model, env={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert server.get("/health")[0] == 200
    assert server.stop() == 0


def test_what_nobody_can_listen_on(model):
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        server = Activated(plain, model, wait=False)
        assert server.process.wait(20) != 0
    assert "does not listen" in server.read_log() and "(http)" in server.log


@pytest.fixture
def manager(tmp_path):
    """Where messages to the service manager arrive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.settimeout(20)
        yield s


def messages(manager, seconds):
    """All that come within so long."""
    found, end = [], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        manager.settimeout(left)
        try:
            found += manager.recv(4096).decode().split("\n")
        except TimeoutError:
            break
    return found


def test_messages_to_the_service_manager(model, manager):
    server = Server(model, env={"NOTIFY_SOCKET": manager.getsockname()}, wait=False)
    assert manager.recv(4096) == b"STATUS=loading the model"
    assert b"READY=1" in manager.recv(4096).split(b"\n")
    assert server.get("/health")[0] == 200, "ready means ready"
    assert messages(manager, 0.5) == [], "no watchdog was asked for"
    assert server.stop() == 0
    assert b"STOPPING=1" in manager.recv(4096).split(b"\n")


def test_the_managers_watchdog(model, manager):
    server = Server(model, "--watchdog-seconds", "5",
                    env={"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000"})
    try:
        assert messages(manager, 1.5).count("WATCHDOG=1") >= 3
        with server.start_stream(**LONG) as s:
            read_until(s, b"data: ")
            with stopped_worker(server):
                until(lambda: server.get("/health")[0] == 503)
                messages(manager, 0.1)
                assert messages(manager, 1.5) == [], "stalled: no sign of life"
            assert "WATCHDOG=1" in messages(manager, 1.5)
    finally:
        server.stop()


def test_an_idle_server_ends(model):
    server = Server(model, "--idle-exit", "1.5")
    end = time.monotonic() + 20
    while server.process.poll() is None and time.monotonic() < end:
        try:
            assert server.get("/health")[0] in (200, 503), "asking how it is keeps nobody awake"
        except OSError:
            pass
        time.sleep(0.1)
    assert server.process.wait(5) == 0
    assert "idle-exit" in server.read_log()


def test_no_end_while_somebody_is_served(model):
    server = Server(model, "--idle-exit", "1")
    with server.start_stream(**LONG) as s:
        for _ in range(12):  # a slow reader
            read_until(s, b"data: ")
            time.sleep(0.25)
        assert server.process.poll() is None
    assert server.process.wait(20) == 0


def test_the_next_request_wakes_it(model, listener):
    server = Activated(listener, model, "--idle-exit", "0.5")
    assert server.process.wait(20) == 0
    with socket.create_connection(listener.getsockname(), timeout=60) as s:
        s.sendall(post_bytes("/v1/completions", json.dumps({"prompt": "x", "max_tokens": 2}).encode(),
                             b"Connection: close\r\n"))
        again = Activated(listener, model, "--idle-exit", "0.5", wait=False)
        assert b" 200 " in read_all(s)[:20]
    assert again.process.wait(20) == 0
