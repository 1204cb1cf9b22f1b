"""Who waits, for how long, and what they are told: deadlines, places in the queue, turns, the prefix cache, leaving."""
import concurrent.futures
import json
import re
import socket
import time

import psutil
import pytest

from conftest import LONG, MODEL, Server, events, post_bytes, read_all, read_until

TEXT = "/v1/completions"


def words(seed, n=400):
    """A prompt that shares nothing with those of other seeds."""
    return f"{seed}: " + " ".join(str((seed * 7919 + i * 104729) % 9973) for i in range(n))


def soon(what, seconds=15):
    """True once `what` is: the server has noticed who left."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def metric(server, name):
    text = server.get("/metrics")[2].decode()
    return next(float(line.split()[-1]) for line in text.split("\n") if line.startswith(("hearth_" + name + " ", "hearth_" + name + "{")))


@pytest.fixture(scope="module")
def narrow(model):
    """One at a time."""
    server = Server(model, "--parallel", "1", "--queue", "40")
    server.complete(max_tokens=10, ignore_eos=True)  # it knows its speed now
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def held(narrow):
    """The server is busy until the returned function is called: not with a stream, which would wait for its reader."""
    s = narrow.start_stream(**LONG, n=8, stream=False)
    assert soon(lambda: metric(narrow, "sequences_running") == 1)
    yield s.close
    s.close()
    assert narrow.settled()


# ---- deadlines ----

@pytest.mark.parametrize("value", ["", "x", "0", "-5", "1.5", "99999999999999999999"])
def test_a_bad_deadline_is_named(server, value):
    status, _, body = server.post(TEXT, {"prompt": "x"}, headers={"X-Deadline-Ms": value})
    assert status == 400 and body["error"]["param"] == "X-Deadline-Ms"


def test_fields_are_named_and_null_is_absent(server):
    for name, bad in [("timeout", "1"), ("timeout", 0), ("priority", 1.5), ("priority", "low"), ("cache_prompt", 1),
                      ("cache_salt", 3), ("cache_explain", "yes"), ("user", 4)]:
        status, _, body = server.complete(**{name: bad})
        assert status == 400 and body["error"]["param"] == name, (name, body)
        assert server.complete(max_tokens=1, **{name: None})[0] == 200


def test_the_deadline_ends_an_answer_with_what_it_has(server):
    for header, fields in [({"X-Deadline-Ms": "400"}, {}), ({}, {"timeout": 0.4}), ({"X-Deadline-Ms": "60000"}, {"timeout": 0.4})]:
        start = time.monotonic()
        status, _, answer = server.post(TEXT, {"prompt": "Once", **LONG, **fields}, headers=header)
        assert status == 200 and 0.3 < time.monotonic() - start < 3
        assert answer["choices"][0]["finish_reason"] == "length" and answer["hearth"]["deadline"] is True
        assert 0 < answer["usage"]["completion_tokens"] < LONG["max_tokens"]


def test_the_deadline_ends_a_stream(server):
    body = {"prompt": ["Once", "Twice"], "n": 2, "stream": True, **LONG, "timeout": 0.5, "stream_options": {"include_usage": True}}
    status, _, data = server.request("POST", TEXT, body)
    chunks = events(data)
    assert status == 200 and chunks[-1]["usage"]["completion_tokens"] > 0
    ends = [c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
    assert [e["choices"][0]["finish_reason"] for e in ends] == ["length"] * 4
    assert ends[-1]["hearth"] == {"deadline": True}
    assert "hearth" not in server.complete(max_tokens=1)[2]


def test_who_cannot_make_it_is_refused(narrow, held):
    """The server is busy for as long as it can see: the deadline would pass in the queue."""
    status, headers, body = narrow.complete("x", timeout=0.5)
    assert status == 503 and body["error"]["code"] == "deadline_unreachable", "not 504 when the time is over"
    assert int(headers["Retry-After"]) >= 1
    held()
    assert soon(lambda: narrow.complete("x", timeout=30)[0] == 200)


# ---- the queue ----

def test_places_in_the_queue(narrow, held):
    waiting = []
    for _ in range(3):
        waiting.append(narrow.start_stream(max_tokens=4))
        time.sleep(0.05)
    heads = [read_until(s, b" s\n\n") for s in waiting]
    assert [int(h.split(b": queued, ")[-1].split()[0]) for h in heads] == [0, 1, 2]
    waiting[0].close()
    assert b": queued, 1 ahead, about " in read_until(waiting[2], b" s\n\n")
    held()
    for s in waiting[1:]:
        read_until(s, b"[DONE]")
        s.close()


def test_those_who_are_refused_come_back_one_after_another(model):
    server = Server(model, "--parallel", "1", "--queue", "2")
    try:
        server.complete(max_tokens=20, ignore_eos=True)
        streams = [server.start_stream(stream=False, ignore_eos=True, max_tokens=3000) for _ in range(3)]
        assert soon(lambda: metric(server, "requests_waiting") == 2)
        assert soon(lambda: b'"decode"' in server.get("/slots")[2])
        after = []
        for _ in range(60):
            status, headers, body = server.complete("x")
            if status != 429:
                break
            assert body["error"]["code"] == "queue_full"
            after.append(int(headers["Retry-After"]))
        assert len(after) > 3 and 1 <= after[0] and after[0] < after[-1] <= 600, after
        for s in streams:
            s.close()
        assert server.settled()
        assert server.complete("x")[0] == 200
    finally:
        assert server.stop() == 0


def order(server, held, requests):
    """In which order requests are answered that wait together, by the server's log: each has its own length, and is
    long enough to be told from the next."""
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        futures = []
        for i, (_, fields, headers) in enumerate(requests):
            body = {"prompt": "x", "max_tokens": 200 + i, "ignore_eos": True, **fields}
            futures.append(pool.submit(server.post, TEXT, body, headers=headers))
            assert soon(lambda: metric(server, "requests_waiting") == i + 1)
        server.read_log()
        known = len(server.log)
        held()
        assert all(future.result()[0] == 200 for future in futures)

    def lengths():  # in the log, a moment behind the answers
        return re.findall(r" 200, \d+ \+ (\d+) tokens", server.read_log()[known:])
    assert soon(lambda: len(lengths()) == len(requests))
    return [requests[int(n) - 200][0] for n in lengths()]


def test_priorities(narrow, held):
    assert order(narrow, held, [(p, {"priority": p}, {}) for p in (0, 3, -2, 1)]) == [-2, 0, 1, 3]


def test_equals_are_served_in_order(narrow, held):
    assert order(narrow, held, [(i, {}, {}) for i in range(6)]) == list(range(6))


@pytest.mark.parametrize("by", ["key", "user"])
def test_a_batch_does_not_hold_back_a_chat(narrow, held, by):
    def who(name):
        return ({"user": name}, {}) if by == "user" else ({}, {"Authorization": f"Bearer {name}"})
    requests = [("batch", *who(f"batch-{by}")) for _ in range(12)] + [("chat", *who(f"chat-{by}"))]
    assert order(narrow, held, requests).index("chat") <= 2


def test_forecasts_come_true(narrow):
    """What a stream hears about its wait, and who is refused about when to come again, is near what happens."""
    busy = [narrow.start_stream(max_tokens=3000, ignore_eos=True, stream=False) for _ in range(6)]
    assert soon(lambda: metric(narrow, "requests_waiting") == 5)
    assert soon(lambda: json.loads(narrow.get("/slots")[2])["slots"][0]["generated_tokens"] > 20)
    with narrow.start_stream(max_tokens=4) as s:
        head = read_until(s, b" s\n\n")
        told, began = int(head.split(b"about ")[1].split()[0]), time.monotonic()
        retry = int(narrow.complete("x", timeout=0.2)[1]["Retry-After"])
        read_until(s, b"data: ")
        took = time.monotonic() - began
    for other in busy:
        other.close()
    assert took / 5 - 1 < told < 5 * took + 1, (told, took)  # other tests may take turns with the processors
    assert 1 <= retry < 5 * took + 1, (retry, took)


# ---- the prefix cache ----

def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_cached_tokens_are_counted(server):
    prompt = words(1)
    first, second = (server.complete(prompt, temperature=0)[2] for _ in range(2))
    n = first["usage"]["prompt_tokens"]
    assert cached(first) == 0 and n - 64 <= cached(second) < n
    assert first["choices"] == second["choices"]
    body = {"prompt": prompt, "max_tokens": 4, "stream": True, "n": 2, "stream_options": {"include_usage": True}}
    assert cached(events(server.request("POST", TEXT, body)[2])[-1]) == cached(second)
    both = server.complete([prompt, prompt], max_tokens=1)[2]
    assert cached(both) == 2 * cached(second)
    assert cached(server.complete(prompt + " and more")[2]) >= cached(second) - 32


def test_cache_prompt_false_neither_reads_nor_leaves(server):
    prompt = words(2)
    for _ in range(2):
        assert cached(server.complete(prompt, cache_prompt=False)[2]) == 0
    assert cached(server.complete(prompt)[2]) == 0
    assert cached(server.complete(prompt, cache_prompt=True)[2]) > 0
    assert cached(server.complete(prompt, cache_prompt=False)[2]) == 0


def test_a_salt_keeps_requests_apart(server):
    prompt = words(3)
    assert cached(server.complete(prompt, cache_salt="a")[2]) == 0
    for salt in ("b", None, ""):
        found = cached(server.complete(prompt, cache_salt=salt)[2])
        assert found == 0 or salt == "", "an empty salt is none"
    assert cached(server.complete(prompt, cache_salt="a")[2]) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_why_a_prompt_was_not_cached(server, stream):
    prompt = words(5 + stream)
    server.complete(prompt)
    other = prompt[:700] + " but then " + prompt[700:]
    body = {"prompt": [other, prompt], "max_tokens": 2, "stream": stream}
    if stream:
        chunks = events(server.request("POST", TEXT, body, headers={"X-Cache-Explain": "1"})[2])
        found = chunks[-1]["hearth"]["cache"]
        assert all("hearth" not in c for c in chunks[:-1])
    else:
        found = server.complete(**body, cache_explain=True)[2]["hearth"]["cache"]
    first = next(f for f in found if f["prompt_index"] == 0)
    assert 0 < first["cached_tokens"] <= first["diverges_at"] < first["prompt_tokens"]
    assert prompt[:700].endswith(first["before"]) or first["before"] in prompt
    assert first["prompt"] != first["cached"] and first["cached"] in prompt and first["prompt"] in other
    assert len(found) == 2
    assert "hearth" not in server.complete(prompt, max_tokens=1)[2]


# ---- what does not fit, and what fits barely ----

@pytest.fixture(scope="module")
def tight(model):
    server = Server(model, "--parallel", "2", "--ctx", "512")
    yield server
    assert server.stop() == 0, server.log


def test_what_can_never_fit_is_a_400(tight):
    for fields in ({"prompt": words(4, 3000)}, {"prompt": "x", "max_tokens": 5000}, {"prompt": "x", "max_tokens": 5000, "n": 4}):
        status, _, body = tight.post(TEXT, fields)
        assert status == 400 and body["error"]["code"] == "context_length_exceeded"
        assert "maximum context length is 512 tokens" in body["error"]["message"]


def test_choices_that_do_not_fit_together_take_turns(tight):
    fields = {"prompt": "Once", "max_tokens": 400, "ignore_eos": True, "temperature": 0.9, "seed": 5}
    status, _, answer = tight.post(TEXT, {**fields, "n": 5})
    assert status == 200 and answer["usage"]["completion_tokens"] == 5 * 400
    texts = [c["text"] for c in answer["choices"]]
    assert len(set(texts)) == 5
    assert tight.post(TEXT, fields)[2]["choices"][0]["text"] == texts[0]


def test_under_pressure_every_stream_says_the_same(model):
    """Two prompts fit the KV cache, their answers do not: the younger gives way and goes on later."""
    if MODEL != "tiny":
        pytest.skip("the sizes are the made-up model's")
    server = Server(model, "--parallel", "2")
    bodies = [{"prompt": [97 + (i * i + k) % 26 for i in range(3500)], "max_tokens": 2000, "ignore_eos": True,
               "temperature": 0.8, "seed": k} for k in range(4)]
    alone = [server.post(TEXT, body)[2]["choices"][0]["text"] for body in bodies]
    assert metric(server, "preemptions_total") == 0

    def stream(body):
        status, _, data = server.request("POST", TEXT, {**body, "stream": True})
        assert status == 200, data
        return "".join(c["choices"][0]["text"] for c in events(data))

    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        assert list(pool.map(stream, bodies)) == alone
    assert metric(server, "preemptions_total") > 0
    assert server.stop() == 0


# ---- leaving, and not reading ----

@pytest.mark.parametrize("after", [0.0, 0.1, 0.5])
def test_leaving_while_a_prompt_is_read(server, after):
    """10 MB of text are with the thread pool; the client goes, and so does the work."""
    body = json.dumps({"prompt": "word and other words. " * 470_000}).encode()
    clients = []
    for _ in range(8):
        s = server.socket()
        s.sendall(post_bytes(TEXT, body))
        clients.append(s)
    time.sleep(after)
    for s in clients:
        s.close()
    assert soon(lambda: server.chat(max_tokens=1)[0] == 200), "the bodies are given back"
    assert server.settled(20)


def test_leaving_in_every_phase(narrow, held):
    """Queued with and without a told place, in prefill, and in the middle of an answer."""
    told = narrow.start_stream(**LONG)
    read_until(told, b" ahead")
    untold = narrow.start_stream(**LONG, stream=False)
    held()
    told.close()
    untold.close()
    prefill = narrow.start_stream(TEXT, prompt=[97 + i % 26 for i in range(7000)], max_tokens=200)
    assert soon(lambda: metric(narrow, "sequences_running") == 1)
    prefill.close()
    assert soon(lambda: metric(narrow, "sequences_running") + metric(narrow, "requests_waiting") == 0)
    assert narrow.settled(), narrow.get("/slots")
    assert narrow.complete("x", max_tokens=1)[0] == 200


def test_a_client_that_does_not_read_is_bounded(model):
    """Its stream stops, what is buffered for it stays small, and others go on as before."""
    server = Server(model, "--parallel", "4")
    try:
        server.complete(max_tokens=50, ignore_eos=True)
        before = psutil.Process(server.process.pid).memory_info().rss
        body = {"prompt": "Once", "stream": True, "logprobs": 20, "n": 2, "ignore_eos": True, "max_tokens": 4000}
        slow = []
        for _ in range(4):
            s = server.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(post_bytes(TEXT, json.dumps(body).encode()))
            slow.append(s)
        assert soon(lambda: metric(server, "generated_tokens_total") > 500, 60)
        assert soon(lambda: metric(server, "sequences_running") == 0, 60), "it waits for its readers"
        assert metric(server, "generated_tokens_total") < 4 * 2 * 1000, "what lies ready for them is bounded"
        assert psutil.Process(server.process.pid).memory_info().rss < before + 60e6  # sanitizers keep what is freed
        with server.start_stream(TEXT, max_tokens=50, ignore_eos=True) as s:
            read_until(s, b"data: ")  # it has a turn although so many have begun
            read_until(s, b"[DONE]")
        for s in slow:
            s.close()
        assert server.settled()
    finally:
        assert server.stop() == 0
