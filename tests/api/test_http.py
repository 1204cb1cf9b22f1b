"""HTTP as hostile or careless clients speak it: a clear answer or a closed connection, everybody else
undisturbed."""
import json
import socket
import struct
import threading
import time

import pytest

from conftest import LONG, Server, post_bytes, read_all, read_until

CHAT = "/v1/chat/completions"
BODY = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}).encode()


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def test_keep_alive_lasts(server):
    with server.socket() as s:
        for _ in range(300):
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in read_until(s, b"}")


def test_pipelined_requests_are_answered_in_order(server):
    with server.socket() as s:
        s.sendall(post_bytes(CHAT, BODY) + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" +
                  b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_all(s)
    codes = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert codes == [200, 200, 404]


def test_pipelining_behind_a_stream(server):
    with server.start_stream(max_tokens=4) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_all(s)
    assert answer.count(b"HTTP/1.1 200") == 2 and b"[DONE]" in answer


def test_chunked_request_body(server):
    chunks = b"".join(f"{len(BODY[i:i + 7]):x}\r\n".encode() + BODY[i:i + 7] + b"\r\n" for i in range(0, len(BODY), 7))
    answer = server.raw(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode() +
                        b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert status(answer) == 200


@pytest.mark.parametrize("head,body", [
    (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    (b"Content-Length: -1\r\n", b""), (b"Content-Length: 99999999999999999999999\r\n", b""),
    (b"Content-Length: 5x\r\n", b"hello"), (b"Transfer-Encoding: chunked\r\n", b"zz\r\nhello\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\nhello\r\n"),
])
def test_ambiguous_lengths_are_refused(server, head, body):
    answer = server.raw(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n".encode() + head + b"\r\n" + body, timeout=5)
    assert status(answer) in (None, 400, 413), answer[:200]


def test_huge_headers_and_uris_are_refused(server):
    for request in (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 131072 + b"\r\n\r\n",
                    b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(10_000)) + b"\r\n",
                    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"):
        try:
            answer = server.raw(request, timeout=5)
        except (BrokenPipeError, ConnectionResetError):
            continue
        assert status(answer) in (None, 400, 413, 414, 431), answer[:100]


def test_too_large_a_body_is_refused_at_once(model):
    server = Server(model, "--max-body", "2K")
    try:
        with server.socket() as s:
            s.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n".encode())
            assert status(read_until(s, b"}}")) == 413
        answer = server.raw(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() +
                            b"c00\r\n" + b"x" * 3072 + b"\r\n0\r\n\r\n", timeout=5)
        assert status(answer) == 413
        assert server.post(CHAT, BODY)[0] == 200
    finally:
        assert server.stop() == 0


def test_truncated_body_and_reset_leave_nothing(server):
    before = server.descriptors()
    for _ in range(20):
        with server.socket() as s:
            s.sendall(post_bytes(CHAT, BODY)[:-5])
        with server.socket() as s:
            s.sendall(post_bytes(CHAT, BODY)[:-5])
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end = time.monotonic() + 5
    while server.descriptors() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert server.descriptors() <= before


def test_reset_in_the_middle_of_a_stream(server):
    for _ in range(5):
        s = server.start_stream(**LONG)
        read_until(s, b"data: ")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    assert server.settled()


def test_half_close_does_not_wedge(server):
    with server.start_stream(max_tokens=3) as s:
        s.shutdown(socket.SHUT_WR)
        read_all(s)
    assert server.settled()


def test_slow_headers_are_cut(server):
    with server.socket(timeout=40) as s:
        start = time.monotonic()
        s.sendall(b"GET /health HTTP/1.1\r\n")
        try:
            while time.monotonic() - start < 40:
                s.sendall(b"X-Slow: 1\r\n")
                s.settimeout(0.5)
                try:
                    if s.recv(4096) == b"":
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
        assert time.monotonic() - start < 20


def test_slow_body_is_read(server):
    with server.socket() as s:
        request = post_bytes(CHAT, BODY)
        for i in range(0, len(request), 16):
            s.sendall(request[i:i + 16])
            time.sleep(0.02)
        assert status(read_until(s, b"}}")) == 200


def test_a_reader_that_does_not_read_holds_nobody(server):
    stuck = [server.start_stream(**LONG) for _ in range(3)]
    time.sleep(0.3)
    start = time.monotonic()
    assert server.chat(max_tokens=2)[0] == 200
    assert time.monotonic() - start < 20
    for s in stuck:
        s.close()
    assert server.settled()


def test_idle_streams_cost_nothing(server):
    """Connected clients that do nothing; the select backend is bounded by FD_SETSIZE."""
    clients = [server.socket() for _ in range(512)]
    for s in clients:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    for s in clients:
        read_until(s, b"}")
    before = server.cpu_seconds()
    time.sleep(1)
    assert server.cpu_seconds() - before < 0.1
    assert server.get("/health")[0] == 200
    for s in clients:
        s.close()


def test_connection_flood_is_survived(server):
    clients = []
    try:
        for _ in range(1500):
            clients.append(server.socket(timeout=2))
    except OSError:
        pass
    for s in clients:
        s.close()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            assert server.get("/health", timeout=5)[0] == 200
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no answer after a flood of connections")


def test_http_1_0(server):
    answer = server.raw(b"GET /health HTTP/1.0\r\n\r\n")
    assert status(answer) == 200
    answer = server.raw(f"POST {CHAT} HTTP/1.0\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
    assert status(answer) == 200


def test_both_loopback_addresses(server):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        s = socket.create_connection(("::1", server.port), timeout=10)
    except OSError as error:
        if error.errno in (97, 99):
            pytest.skip("no IPv6 here")
        raise
    with s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status(read_all(s)) == 200


def test_nul_and_bad_escapes_in_the_path(server):
    for path in (b"/v1/models/%00", b"/v1/models/%zz", b"/v1/models/%", b"/v1/%ff%fe"):
        answer = server.raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status(answer) in (400, 404), answer


def test_parallel_clients_get_their_own_answers(server):
    wanted = {i: server.complete(f"Number {i} is", temperature=0, max_tokens=6)[2]["choices"][0]["text"] for i in range(6)}
    got = {}

    def run(i):
        got[i] = server.complete(f"Number {i} is", temperature=0, max_tokens=6)[2]["choices"][0]["text"]

    threads = [threading.Thread(target=run, args=(i,)) for i in wanted]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == wanted
