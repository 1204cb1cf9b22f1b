"""Random clients for a while: whole answers, streams, leavers, bad requests, all at once. Every answer
must be the one a quiet server gives for the same seed; memory and descriptors must not grow.
HEARTH_TEST_LONG=1 (scripts/test --long) makes it two hours."""
import os
import random
import threading
import time

import psutil

from conftest import Server, events

SECONDS = 7200 if os.environ.get("HEARTH_TEST_LONG") == "1" else 20
CLIENTS = 6


def resident(server):
    return psutil.Process(server.process.pid).memory_info().rss


def requests():
    """A few requests whose answers are known beforehand, by number."""
    rng = random.Random(3)
    for i in range(12):
        yield {"prompt": " ".join(rng.choice(["one", "two", "red", "blue", "sky", "x"]) for _ in range(rng.choice([1, 5, 40]))),
               "max_tokens": rng.choice([1, 6, 24]), "temperature": rng.choice([0, 0.9]), "seed": i, "n": rng.choice([1, 1, 3])}


def texts(choices):
    return [choice["text"] for choice in sorted(choices, key=lambda choice: choice["index"])]


def joined(chunks, n):
    parts = [""] * n
    for chunk in chunks:
        for choice in chunk["choices"]:
            parts[choice["index"]] += choice["text"]
    return parts


def test_churn(model):
    server = Server(model, "--parallel", "4", "--queue", "1000")
    known = list(requests())
    answers = [texts(server.post("/v1/completions", body)[2]["choices"]) for body in known]
    failures = []
    end = time.monotonic() + SECONDS

    def client(number):
        rng = random.Random(number)
        while time.monotonic() < end and not failures:
            which = rng.randrange(len(known))
            body, what = known[which], rng.randrange(6)
            try:
                if what == 0:
                    s = server.start_stream("/v1/completions", **{**body, "max_tokens": 400})
                    time.sleep(rng.random() * 0.2)
                    s.close()
                elif what == 1:
                    assert server.request("POST", "/v1/completions", b'{"prompt": 3}')[0] == 400
                elif what < 4:
                    status, _, data = server.request("POST", "/v1/completions", {**body, "stream": True})
                    assert status == 200, data
                    assert joined(events(data), body["n"]) == answers[which], ("stream", which)
                else:
                    status, _, answer = server.post("/v1/completions", body)
                    assert status == 200, answer
                    assert texts(answer["choices"]) == answers[which], ("whole", which)
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(min(SECONDS / 2, 60))
    before = resident(server)
    for thread in threads:
        thread.join()
    try:
        assert not failures, failures
        assert server.settled()
        assert resident(server) < before * 1.1 + 8e6
        assert server.descriptors() < 40
    finally:
        assert server.stop() == 0
