"""Starting, stopping, waiting, leaving."""
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import BACKENDS, HEARTH, LONG, Server, events, read_all, read_until


@pytest.fixture(params=BACKENDS)
def own(request, model):
    server = Server(model, "--poll-backend", request.param, "--parallel", "2", "--queue", "2")
    yield server
    if server.process.poll() is None:
        server.stop()


def test_sigterm_lets_streams_finish(own):
    with own.start_stream(max_tokens=40) as s:
        data = read_until(s, b"data: ")
        own.process.send_signal(signal.SIGTERM)
        data += read_all(s)
    assert b"[DONE]" in data
    assert own.process.wait(30) == 0


def test_draining_refuses_new_requests(own):
    with own.start_stream(max_tokens=200) as s, own.socket() as waiting:
        read_until(s, b"data: ")
        waiting.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(waiting, b"}")
        own.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        if own.process.poll() is None:
            try:
                waiting.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = read_all(waiting)
                assert answer == b"" or b" 503 " in answer
            except OSError:
                pass
        read_all(s)
    assert own.process.wait(60) == 0


def test_second_signal_ends_at_once(own):
    with own.start_stream(**LONG) as s:
        read_until(s, b"data: ")
        own.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        own.process.send_signal(signal.SIGINT)
        start = time.monotonic()
        own.process.wait(20)
        assert time.monotonic() - start < 15


def test_sighup_does_not_end_it(own):
    own.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert own.get("/health")[0] == 200


def test_leaving_stops_the_work(own):
    """In every phase: streaming, queued, whole answers."""
    streams = [own.start_stream(**LONG) for _ in range(2)]
    for s in streams:
        read_until(s, b"data: ")
    queued = own.start_stream(**LONG)
    whole = own.start_stream(**LONG, stream=False)
    time.sleep(0.1)
    for s in [queued, whole, *streams]:
        s.close()
    assert own.settled()
    assert own.chat(max_tokens=1)[0] == 200


def test_full_queue_is_a_429(own):
    streams = [own.start_stream(**LONG) for _ in range(12)]
    refused = 0
    time.sleep(0.5)
    for _ in range(3):
        status, headers, body = own.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1}, timeout=60)
        if status == 429:
            refused += 1
            assert int(headers["Retry-After"]) >= 1
            assert json.loads(body)["error"]["code"]
    for s in streams:
        s.close()
    assert refused > 0
    assert own.settled()


def test_many_cancels(own):
    before = own.descriptors()
    for _ in range(100):
        s = own.start_stream(max_tokens=50)
        s.close()
    assert own.settled(20)
    end = time.monotonic() + 10
    while own.descriptors() > before + 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert own.descriptors() <= before + 2
    assert own.chat(max_tokens=1)[0] == 200


def test_port_in_use(own, model):
    done = subprocess.run([HEARTH, "serve", "-m", model, "--port", str(own.port)], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and str(own.port) in done.stderr and "in use" in done.stderr.lower()


@pytest.mark.parametrize("content,word", [(b"", "empty"), (b"GGUF", None), (b"not a model at all", "GGUF"), (None, None)])
def test_bad_model_file(tmp_path, content, word):
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    done = subprocess.run([HEARTH, "serve", "-m", str(path), "--port", "0"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "bad.gguf" in done.stderr
    if word:
        assert word in done.stderr


def test_few_descriptors(model):
    """Out of descriptors: the server goes on with those it has."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("no prlimit here")
    server = Server(model, env={}, wait=True)
    try:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (server.descriptors() + 8, server.descriptors() + 8))
        clients = []
        for _ in range(30):
            try:
                clients.append(server.socket(timeout=1))
            except OSError:
                break
        time.sleep(0.5)
        before = server.cpu_seconds()
        time.sleep(1)
        assert server.cpu_seconds() - before < 0.5, "spins on accept"
        for s in clients:
            s.close()
        end = time.monotonic() + 10
        while True:
            try:
                assert server.get("/health", timeout=2)[0] == 200
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.1)
    finally:
        assert server.stop() == 0


def test_api_key(model):
    server = Server(model, "--api-key", "secret")
    try:
        assert server.get("/health")[0] == 200
        status, headers, body = server.request("GET", "/v1/models")
        assert status == 401 and json.loads(body)["error"]["code"] == "invalid_api_key"
        assert server.request("GET", "/v1/models", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert server.request("GET", "/v1/models", headers={"Authorization": "Bearer secret"})[0] == 200
    finally:
        assert server.stop() == 0
    assert "secret" not in server.log


def test_cors(model):
    server = Server(model, "--cors", "*")
    try:
        status, headers, body = server.request("OPTIONS", "/v1/chat/completions", headers={
            "Origin": "http://example.org", "Access-Control-Request-Method": "POST"})
        assert status == 204 and body == b""
        allowed = headers["Access-Control-Allow-Headers"].lower()
        assert "authorization" in allowed and "content-type" in allowed and "x-stainless" in allowed
        assert server.request("GET", "/v1/models", headers={"Origin": "http://example.org"})[1][
            "Access-Control-Allow-Origin"] in ("*", "http://example.org")
    finally:
        assert server.stop() == 0


def test_mixed_load_ends_clean(own):
    """Streams, whole answers, bad requests and leavers at once; then an orderly end."""
    failures = []

    def client(i):
        for k in range(4):
            try:
                if (i + k) % 4 == 0:
                    own.start_stream(max_tokens=20).close()
                elif (i + k) % 4 == 1:
                    assert own.request("POST", "/v1/completions", b"{")[0] == 400
                elif (i + k) % 4 == 2:
                    status, _, data = own.request("POST", "/v1/completions", {"prompt": "x", "stream": True, "max_tokens": 4})
                    assert status in (200, 429)
                    if status == 200:
                        events(data)
                else:
                    assert own.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 3})[0] in (200, 429)
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures
    assert own.stop() == 0


def test_children_get_no_descriptors(own):
    """Nothing is inheritable: every descriptor but the standard ones closes on exec."""
    if not os.path.exists("/proc/self/fdinfo"):
        pytest.skip("no /proc here")
    for fd in os.listdir(f"/proc/{own.process.pid}/fdinfo"):
        if int(fd) > 2:
            try:
                with open(f"/proc/{own.process.pid}/fdinfo/{fd}") as info:
                    flags = [line.split()[1] for line in info if line.startswith("flags")][0]
            except FileNotFoundError:
                continue
            assert int(flags, 8) & os.O_CLOEXEC, (fd, os.readlink(f"/proc/{own.process.pid}/fd/{fd}"))


def test_clients_come_back_after_a_stop(own):
    with socket.create_connection(("127.0.0.1", own.port)) as s:
        assert own.stop() == 0
        s.settimeout(5)
        assert s.recv(10) == b""


def test_a_log_that_nobody_reads_holds_nobody(own):
    """Standard error is a pipe here, and nobody empties it."""
    with own.socket() as s:
        for _ in range(3000):
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{")
            assert b" 400 " in read_until(s, b"}}")
    assert len(own.read_log()) > 60_000, "the log must have been full"


@pytest.mark.parametrize("backend", BACKENDS)
def test_waiting_streams_cost_nothing(model, backend):
    """512 clients of the event stream that have nothing to read; comments keep them alive."""
    server = Server(model, "--poll-backend", backend, "--parallel", "1", "--queue", "600")
    streams = []
    try:
        streams = [server.start_stream(**LONG) for _ in range(512)]
        read_until(streams[0], b"data: ")
        streams[0].close()  # the next one is running now, its tokens unread
        time.sleep(0.5)
        before = server.loop_seconds()
        time.sleep(2)
        assert server.loop_seconds() - before < 1  # one that spins takes all of the 2; sanitizers take some
        streams[-1].settimeout(20)
        head = read_until(streams[-1], b"\r\n:")  # a comment
        assert b" 200 " in head and b"text/event-stream" in head and b"data: " not in head
        assert server.get("/health")[0] == 200
    finally:
        for s in streams:
            s.close()
        assert server.settled(20)
        assert server.descriptors() < 40, "every connection is closed"
        assert server.stop() == 0
