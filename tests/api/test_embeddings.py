"""POST /v1/embeddings: OpenAI's client, every shape of input, and vectors that depend on nothing but their text."""
import base64
import math
import os
import struct
import threading

import openai
import pytest

from conftest import LONG, Server
from test_waiting import metric, soon

PATH = "/v1/embeddings"
TEXTS = ["Hello, world!", "a", "Grüße 世界 🙂", "def f(x):\n    return x * 2\n"]


def embed(server, input, **fields):
    status, _, answer = server.post(PATH, {"input": input, **fields})
    assert status == 200, answer
    return answer


def vectors(server, input, **fields):
    data = embed(server, input, **fields)["data"]
    assert [entry["index"] for entry in data] == list(range(len(data)))
    return [entry["embedding"] for entry in data]


def ids_of(server, text):
    return server.post("/tokenize", {"content": text})[2]["tokens"]


def norm(vector):
    return math.sqrt(math.fsum(x * x for x in vector))


def f32(vector):
    return struct.pack(f"<{len(vector)}f", *vector)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_openai_client(server, encoding):
    """Without an encoding_format it asks for base64 and decodes that."""
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    options = {"encoding_format": encoding} if encoding else {}
    answer = client.embeddings.create(model="any", input=TEXTS, user="me", **options)
    assert answer.object == "list" and [d.index for d in answer.data] == [0, 1, 2, 3]
    assert all(d.object == "embedding" for d in answer.data)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(len(ids_of(server, t)) for t in TEXTS)
    wanted = vectors(server, TEXTS)
    for got, vector in zip(answer.data, wanted):
        raw = base64.b64decode(got.embedding) if isinstance(got.embedding, str) else f32(got.embedding)
        assert raw == f32(vector) and abs(norm(vector) - 1) < 1e-6
    assert len({f32(v) for v in wanted}) == 4


def test_shapes_of_input(server):
    whole = vectors(server, TEXTS)
    ids = [ids_of(server, text) for text in TEXTS]
    assert vectors(server, ids) == whole
    assert vectors(server, TEXTS[0]) == vectors(server, ids[0]) == whole[:1]
    assert vectors(server, [TEXTS[2]]) == whole[2:3]


def test_dimensions(server):
    whole = vectors(server, TEXTS[0])[0]
    for n in (1, 7, len(whole)):
        short = vectors(server, TEXTS[0], dimensions=n)[0]
        length = norm(whole[:n])
        assert len(short) == n and max(abs(a - b / length) for a, b in zip(short, whole)) < 1e-6
    status, _, answer = server.post(PATH, {"input": "a", "dimensions": len(whole) + 1})
    assert status == 400 and answer["error"]["param"] == "dimensions" and str(len(whole)) in answer["error"]["message"]


def test_pooling(server):
    one, many = ids_of(server, "a")[:1], ids_of(server, TEXTS[0])
    of_one = [vectors(server, one, pooling=p)[0] for p in ("mean", "last", "cls")]
    assert of_one[0] == of_one[1] == of_one[2]
    of_many = {p: vectors(server, many, pooling=p)[0] for p in ("mean", "last", "cls")}
    assert len({f32(v) for v in of_many.values()}) == 3
    assert of_many["cls"] == vectors(server, many[:1])[0], "the first token sees no others"
    assert vectors(server, many)[0] == of_many["mean"], "what files say that say nothing"


def test_the_same_bits_beside_others(server):
    """Alone, in long lists, beside streams, after its text was cached."""
    text = "Once upon a time there was a text of several chunks. " * 12
    alone = {pooling: vectors(server, text, pooling=pooling)[0] for pooling in ("mean", "last")}
    streams = [server.start_stream(max_tokens=1500, ignore_eos=True) for _ in range(3)]
    try:
        assert soon(lambda: metric(server, "sequences_running") == 3)
        for pooling, vector in alone.items():
            assert vectors(server, TEXTS + [text] + TEXTS, pooling=pooling, cache_prompt=False)[4] == vector
    finally:
        for s in streams:
            s.close()
    assert server.complete(text, max_tokens=1)[0] == 200
    for pooling, vector in alone.items():
        assert vectors(server, text, pooling=pooling)[0] == vector


def test_as_many_as_openai_takes(server):
    answer = embed(server, ["a", "b"] * 1024, dimensions=2)
    assert len(answer["data"]) == 2048 and answer["usage"]["prompt_tokens"] == 2048 * len(ids_of(server, "a"))
    assert len({tuple(d["embedding"]) for d in answer["data"]}) == 2
    assert {tuple(d["embedding"]) for d in answer["data"][::2]} == {tuple(answer["data"][0]["embedding"])}
    status, _, answer = server.post(PATH, {"input": ["a"] * 2049})
    assert status == 400 and answer["error"]["param"] == "input" and "2048" in answer["error"]["message"]


@pytest.mark.parametrize("fields, param", [
    ({}, "input"), ({"input": None}, "input"), ({"input": ""}, "input"), ({"input": ["a", ""]}, "input"),
    ({"input": []}, "input"), ({"input": [[]]}, "input"), ({"input": 5}, "input"), ({"input": {}}, "input"),
    ({"input": ["a", 5]}, "input"), ({"input": [1, "a"]}, "input"), ({"input": [[1], "a"]}, "input"),
    ({"input": [True]}, "input"), ({"input": [1.5]}, "input"), ({"input": [-1]}, "input"), ({"input": [[10 ** 9]]}, "input"),
    ({"input": [10 ** 30]}, "input"), ({"input": [["a"]]}, "input"), ({"input": [[[1]]]}, "input"),
    ({"encoding_format": "hex"}, "encoding_format"), ({"encoding_format": 1}, "encoding_format"),
    ({"dimensions": 0}, "dimensions"), ({"dimensions": -1}, "dimensions"), ({"dimensions": 1.5}, "dimensions"),
    ({"dimensions": 2 ** 40}, "dimensions"), ({"pooling": "max"}, "pooling"), ({"pooling": ["mean"]}, "pooling"),
    ({"user": 5}, "user"), ({"timeout": 0}, "timeout"),
])
def test_wrong_fields_are_named(server, fields, param):
    body = {"input": "a", **fields} if fields else {}
    status, _, answer = server.post(PATH, body)
    assert status == 400 and answer["error"]["param"] == param, answer


def test_null_is_absent_and_unknown_is_ignored(server):
    fields = {"encoding_format": None, "dimensions": None, "pooling": None, "user": None, "stream": True, "max_tokens": "x"}
    assert vectors(server, "a", **fields) == vectors(server, "a")


def test_too_long(server):
    for input in ("a b c " * 30_000, ["a", "a b c " * 30_000], [1] * 100_000):
        status, _, answer = server.post(PATH, {"input": input})
        assert status == 400 and answer["error"]["code"] == "context_length_exceeded"
        assert answer["error"]["param"] == "input"
    assert vectors(server, "a")


@pytest.fixture(scope="module")
def narrow(model):
    server = Server(model, "--parallel", "1", "--queue", "1")
    yield server
    assert server.stop() == 0, server.log


def test_who_finds_no_place_is_told_so(narrow):
    streams = [narrow.start_stream(**LONG, stream=False)]
    assert soon(lambda: metric(narrow, "sequences_running") == 1)
    streams.append(narrow.start_stream(**LONG, stream=False))
    assert soon(lambda: metric(narrow, "requests_waiting") == 1)
    status, headers, answer = narrow.post(PATH, {"input": ["a", "b"]})
    assert status == 429 and answer["error"]["code"] == "queue_full" and int(headers["Retry-After"]) > 0
    for s in streams:
        s.close()
    assert narrow.settled()
    assert len(vectors(narrow, ["a"] * 40)) == 40, "more than the queue has places: in turn"


def test_leaving_and_deadlines(narrow):
    text = "one two three four " * 300
    s = narrow.start_stream(PATH, input=[text] * 50, stream=False)
    assert soon(lambda: metric(narrow, "sequences_running") == 1)
    s.close()
    assert soon(lambda: metric(narrow, "sequences_running") == 0 and metric(narrow, "requests_waiting") == 0)
    status, _, answer = narrow.post(PATH, {"input": [text] * 50, "timeout": 0.3})
    assert (status, answer["error"]["code"]) in ((503, "deadline_unreachable"), (504, "deadline_exceeded"))
    assert narrow.settled()


def same(a, b):
    """To the bit, but for GPUs, whose sums depend on what else is in the batch."""
    return a == b if "HEARTH_DEVICE" not in os.environ else math.fsum(x * y for x, y in zip(a, b)) > 0.9999


def test_many_clients(server):
    wanted, wrong = vectors(server, TEXTS), []

    def ask(i):
        if not all(map(same, vectors(server, TEXTS[i % 4:]), wanted[i % 4:])):
            wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_meaning(server, real):
    """A real model finds what belongs together."""
    cat, kitten, tax = vectors(server, ["The cat sleeps on the sofa.", "A kitten is napping on the couch.",
                                        "Quarterly income tax returns are due in April."])
    near, far = (math.fsum(a * b for a, b in zip(cat, other)) for other in (kitten, tax))
    assert near > far
