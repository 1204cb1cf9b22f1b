"""Every byte of the event stream, and the text that comes through it."""
import json

from conftest import events, post_bytes

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def stream(server, path=CHAT, **fields):
    body = {"messages": [{"role": "user", "content": "Count."}], "prompt": "One, two,", "max_tokens": 10, "temperature": 0,
            "stream": True, **fields}
    status, headers, data = server.request("POST", path, body)
    assert status == 200, data
    return headers, data


def test_headers(server):
    headers, _ = stream(server)
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-cache" and headers["X-Accel-Buffering"] == "no"


def test_chat_chunks(server):
    _, data = stream(server)
    chunks = events(data)
    assert all(c["object"] == "chat.completion.chunk" for c in chunks)
    assert len({(c["id"], c["created"], c["model"]) for c in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[0]["choices"][0]["finish_reason"] is None
    assert chunks[-1]["choices"][0]["delta"] == {} and chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    for chunk in chunks[1:-1]:
        assert set(chunk["choices"][0]["delta"]) == {"content"} and chunk["choices"][0]["finish_reason"] is None
    assert all("usage" not in c for c in chunks)


def test_usage_chunk(server):
    for path in (CHAT, COMPLETIONS):
        chunks = events(stream(server, path, stream_options={"include_usage": True}, ignore_eos=True)[1])
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 0
        assert all(c["usage"] is None for c in chunks[:-1])
        chunks = events(stream(server, path, stream_options={})[1])
        assert all("usage" not in c for c in chunks)


def test_completion_chunks(server):
    chunks = events(stream(server, COMPLETIONS)[1])
    whole = server.complete("One, two,", max_tokens=10, temperature=0)[2]
    assert "".join(c["choices"][0]["text"] for c in chunks) == whole["choices"][0]["text"]
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]] == \
           [whole["choices"][0]["finish_reason"]]
    assert all(c["object"] == "text_completion" for c in chunks)


def test_streamed_logprobs_equal_the_whole(server):
    chunks = events(stream(server, logprobs=True, top_logprobs=2)[1])
    streamed = [e for c in chunks for e in ((c["choices"][0].get("logprobs") or {}).get("content") or [])]
    whole = server.post(CHAT, {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 10, "temperature": 0,
                               "logprobs": True, "top_logprobs": 2})[2]
    assert streamed == whole["choices"][0]["logprobs"]["content"]
    chunks = events(stream(server, COMPLETIONS, logprobs=1)[1])
    whole = server.complete("One, two,", max_tokens=10, temperature=0, logprobs=1)[2]["choices"][0]["logprobs"]
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        joined = [e for c in chunks for e in ((c["choices"][0].get("logprobs") or {}).get(name) or [])]
        assert joined == whole[name], name


def test_logprobs_zero_has_no_alternatives(server):
    chosen = server.complete(max_tokens=2, logprobs=0)[2]["choices"][0]["logprobs"]
    assert len(chosen["tokens"]) == len(chosen["token_logprobs"])
    content = server.chat(max_tokens=2, logprobs=True)[2]["choices"][0]["logprobs"]["content"]
    assert all(e["top_logprobs"] == [] for e in content)


def test_stream_equals_whole_at_every_temperature(server):
    for fields in ({"temperature": 0}, {"temperature": 1, "seed": 5}, {"temperature": 1.5, "top_k": 5, "seed": 9},
                   {"temperature": 0.8, "top_p": 0.5, "min_p": 0.05, "seed": 2 ** 40}):
        whole = server.complete("One, two,", max_tokens=20, **fields)[2]["choices"][0]["text"]
        chunks = events(stream(server, COMPLETIONS, max_tokens=20, **fields)[1])
        assert "".join(c["choices"][0]["text"] for c in chunks) == whole


def test_no_half_characters(server, real):
    answer = server.chat("Repeat exactly: 日本語 😀🎉 Ünïcödé", max_tokens=40, temperature=0)[2]
    body = json.dumps({"messages": [{"role": "user", "content": "Repeat exactly: 日本語 😀🎉 Ünïcödé"}], "max_tokens": 40,
                       "temperature": 0, "stream": True}).encode()
    raw = server.raw(post_bytes(CHAT, body, b"Connection: close\r\n"))
    raw.decode()
    chunks = events(server.request("POST", CHAT, body)[2])
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert text == answer["choices"][0]["message"]["content"]
    assert all("\ufffd" not in c["choices"][0]["delta"].get("content", "") for c in chunks) or "\ufffd" in text


def test_stop_across_tokens_is_cut_out(server):
    text = server.complete("One, two,", max_tokens=24, temperature=0)[2]["choices"][0]["text"]
    middle = len(text) // 2
    for length in (1, 3, 5):
        stop = text[middle:middle + length]
        if not stop or "\ufffd" in stop:
            continue
        want = text[:text.index(stop)]
        answer = server.complete("One, two,", max_tokens=24, temperature=0, stop=stop)[2]
        assert answer["choices"][0]["text"] == want and answer["choices"][0]["finish_reason"] == "stop"
        chunks = events(stream(server, COMPLETIONS, max_tokens=24, stop=["\x01never", stop])[1])
        assert "".join(c["choices"][0]["text"] for c in chunks) == want


def test_one_write_per_token(server):
    with server.start_stream(max_tokens=5) as s:
        data = b""
        while b"[DONE]" not in data:
            data += s.recv(65536)
    assert data.count(b"data: ") >= 3


def test_error_before_the_first_token_has_a_real_status(server):
    status, headers, data = server.request("POST", CHAT, {"messages": [{"role": "user", "content": "x " * 200_000}],
                                                          "stream": True})
    assert status == 400 and json.loads(data)["error"]["code"] == "context_length_exceeded"
    assert "maximum context length" in json.loads(data)["error"]["message"]
