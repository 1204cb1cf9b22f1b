"""Request bodies that are wrong in every way: a 400 that names what is wrong, for the sender alone."""
import json

import pytest

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def error_of(server, body, path=CHAT):
    status, _, answer = server.post(path, body)
    assert status == 400, answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["type"] == "invalid_request_error"
    assert error["code"] is None or isinstance(error["code"], str)
    return error


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"[]", b"null", b"3", b'"x"', b"{} trailing", b'{"messages":[}',
    b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"messages":[{"role":"user","content":"a"}],"max_tokens":1,"max_tokens":2}',
    b'{"temperature":1e999,"messages":[{"role":"user","content":"a"}]}',
    b'{"temperature":NaN,"messages":[{"role":"user","content":"a"}]}',
    b'{"messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    b'{"messages":[{"role":"user","content":"\xc3"}]}',
])
def test_malformed(server, body):
    error_of(server, body)


@pytest.mark.parametrize("fields,param", [
    ({"messages": None}, "messages"), ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"),
    ({"messages": [3]}, "messages[0]"), ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, None),
    ({"max_tokens": "5"}, "max_tokens"), ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 2.5}, "max_tokens"),
    ({"max_tokens": 2 ** 63}, "max_tokens"), ({"max_tokens": 1e300}, "max_tokens"),
    ({"temperature": "hot"}, "temperature"), ({"temperature": -0.1}, "temperature"), ({"temperature": 1e9}, "temperature"),
    ({"top_p": 1.5}, "top_p"), ({"top_p": -1}, "top_p"), ({"n": 0}, "n"), ({"n": 10 ** 9}, "n"),
    ({"stop": 5}, "stop"), ({"stop": [1]}, "stop"), ({"stop": ["x"] * 1000}, "stop"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"), ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"5": "much"}}, "logit_bias"), ({"logit_bias": [1]}, "logit_bias"),
    ({"seed": 1e30}, "seed"), ({"seed": "x"}, "seed"), ({"logprobs": 5}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 1000}, "top_logprobs"), ({"stream": "yes"}, "stream"),
    ({"stream_options": 1}, "stream_options"), ({"presence_penalty": 9}, "presence_penalty"),
    ({"frequency_penalty": -9}, "frequency_penalty"),
])
def test_wrong_fields_are_named(server, fields, param):
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, **fields}
    error = error_of(server, body)
    if param:
        assert error["param"] == param or error["param"].startswith(param), error


@pytest.mark.parametrize("fields,param", [
    ({"prompt": None}, "prompt"), ({"prompt": ""}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": {}}, "prompt"),
    ({"prompt": [[]]}, "prompt"), ({"prompt": [-1]}, "prompt"), ({"prompt": [10 ** 9]}, "prompt"), ({"prompt": [1, "a"]}, "prompt"),
    ({"logprobs": -1}, "logprobs"), ({"logprobs": 10 ** 6}, "logprobs"), ({"echo": 1}, "echo"), ({"suffix": 4}, "suffix"),
])
def test_wrong_completion_fields_are_named(server, fields, param):
    error = error_of(server, {"prompt": "a", "max_tokens": 1, **fields}, COMPLETIONS)
    assert error["param"].startswith(param), error


def test_null_means_absent(server):
    nulls = ["max_tokens", "temperature", "top_p", "n", "stop", "logit_bias", "seed", "logprobs", "top_logprobs", "stream",
             "stream_options", "presence_penalty", "frequency_penalty", "user", "tools", "tool_choice", "response_format",
             "max_completion_tokens", "top_k", "min_p", "model"]
    body = {"messages": [{"role": "user", "content": "a"}], **{name: None for name in nulls}, "max_completion_tokens": 2}
    assert server.post(CHAT, body)[0] == 200
    nulls = ["suffix", "echo", "logprobs", "best_of", "stop", "seed"]
    assert server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 2, **{name: None for name in nulls}})[0] == 200


def test_unknown_fields_are_ignored(server):
    assert server.chat(frobnicate={"a": [1]}, metadata={"k": "v"}, store=False, service_tier="auto")[0] == 200


def test_whole_floats_are_integers(server):
    assert server.chat(max_tokens=2.0)[0] == 200


def test_messages_of_every_kind(server):
    messages = [{"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": None,
                 "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "3"}, {"role": "assistant", "content": "ok", "name": "bot"},
                {"role": "user", "content": "c"}]
    status, _, answer = server.post(CHAT, {"messages": messages, "max_tokens": 1})
    assert status == 200, answer


def test_a_nul_in_the_text_is_text_or_a_400(server):
    status, _, answer = server.post(CHAT, b'{"messages":[{"role":"user","content":"a\\u0000b"}],"max_tokens":1}')
    assert status in (200, 400), answer


def test_hundred_thousand_messages(server):
    messages = [{"role": "user" if i % 2 == 0 else "assistant", "content": "x"} for i in range(100_001)]
    status, _, answer = server.post(CHAT, {"messages": messages, "max_tokens": 1})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded", answer


def test_what_is_not_there_yet_is_said(server):
    for fields in ({"function_call": {"name": "f"}}, {"tools": [], "tool_choice": "required"}):
        status, _, answer = server.chat(**fields)
        assert status == 400 and answer["error"]["param"] in fields, answer


def test_error_bodies_are_json_on_every_path(server):
    for method, path, want in [("GET", "/v1/nothing", 404), ("GET", "/%2e%2e", 404), ("DELETE", CHAT, 405), ("GET", CHAT, 405),
                               ("POST", "/v1/models", 405), ("PUT", "/health", 405)]:
        status, headers, body = server.request(method, path)
        assert status == want, (method, path, body)
        assert headers["Content-Type"].startswith("application/json") and json.loads(body)["error"]["message"]
        if want == 405:
            assert headers["Allow"]


def test_routes_without_the_prefix(server):
    assert server.post("/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1})[0] == 200
    assert server.get("/models")[0] == 200
    status, headers, body = server.request("HEAD", "/v1/models")
    assert status == 200 and body == b""
