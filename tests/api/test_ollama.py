"""Ollama's API through the official client, and byte by byte."""
import json
import os
import re
import subprocess
import time
from datetime import datetime, timedelta, timezone

import ollama
import pytest

from conftest import LONG, Server, read_until
from test_reasoning import TEMPLATE

USER = [{"role": "user", "content": "What is the capital of France?"}]
FEW = {"num_predict": 8, "temperature": 0}
WEATHER = {"type": "function",
           "function": {"name": "get_weather", "description": "The weather in a city.",
                        "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                                       "required": ["city"]}}}
DURATIONS = ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"]
COUNTS = ["prompt_eval_count", "eval_count"]


@pytest.fixture(scope="module")
def server(model):
    server = Server(model)
    yield server
    assert server.stop() == 0, server.log


def client_of(server):
    return ollama.Client(host=server.url.removesuffix("/v1"))


@pytest.fixture
def client(server):
    return client_of(server)


@pytest.fixture(scope="module")
def name(server):
    return client_of(server).list().models[0].model


def lines(server, path, **body):
    status, headers, data = server.request("POST", path, body)
    assert status == 200 and headers["Content-Type"] == "application/x-ndjson", data
    assert data.endswith(b"\n") and b"\n\n" not in data
    return [json.loads(line) for line in data.decode().splitlines()]


def needs(client, name, capability):
    if capability not in client.show(name).capabilities:
        pytest.skip(f"needs a model with {capability}")


# ---- chat ----

def test_chat(client, name):
    answer = client.chat(model=name, messages=USER, options=FEW)
    assert answer.model == name and answer.done and answer.done_reason in ("stop", "length")
    assert answer.message.role == "assistant" and isinstance(answer.message.content, str)
    assert answer.message.tool_calls is None and answer.message.thinking is None
    assert 0 < answer.eval_count <= 8 and answer.prompt_eval_count > 0
    assert all(answer[key] > 0 for key in DURATIONS)
    made = datetime.fromisoformat(answer.created_at)
    assert abs(made - datetime.now(timezone.utc)) < timedelta(minutes=5)


def test_stream_equals_whole(client, name):
    whole = client.chat(model=name, messages=USER, options=FEW)
    parts = list(client.chat(model=name, messages=USER, options=FEW, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (parts[-1].done_reason, parts[-1].eval_count) == (whole.done_reason, whole.eval_count)


def test_lines(server):
    """What stands in a line, in this order; a stream unless it is not wanted."""
    found = lines(server, "/api/chat", model="m", messages=USER, options={**FEW, "ignored": [1]})
    for line in found[:-1]:
        assert list(line) == ["model", "created_at", "message", "done"] and line["done"] is False
        assert list(line["message"]) == ["role", "content"] and line["message"]["role"] == "assistant"
    last = found[-1]
    assert set(last) == {"model", "created_at", "message", "done", "done_reason", *DURATIONS, *COUNTS}
    assert last["done"] is True and last["message"] == {"role": "assistant", "content": ""}
    assert all(isinstance(last[key], int) and last[key] > 0 for key in DURATIONS + COUNTS)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", last["created_at"])
    status, headers, whole = server.post("/api/chat", {"model": "m", "messages": USER, "options": FEW, "stream": False})
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert set(whole) == set(last)
    assert whole["message"]["content"] == "".join(line["message"]["content"] for line in found)


def test_options(client, name):
    def text(**options):
        plain = {"num_predict": 12, "repeat_penalty": 1, "temperature": 0}
        answer = client.generate(model=name, prompt="Once", raw=True, options={**plain, **options})
        return answer.response, answer.done_reason

    assert text(seed=4, temperature=1) == text(seed=4, temperature=1)
    whole, _ = text()
    assert text(temperature=1, top_k=1)[0] == whole
    stop = whole[len(whole) // 2:][:2]
    assert text(stop=[stop]) == (whole[:whole.index(stop)], "stop")
    assert text(num_ctx=10**6)[0] == whole
    assert text(repeat_last_n=0, repeat_penalty=5)[0] == whole
    assert text(repeat_penalty=5)[0] != whole


def test_format(client, name):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99},
                                               "ok": {"type": "boolean"}}, "required": ["n", "ok"]}
    for stream in (False, True):
        answer = client.chat(model=name, messages=USER, format=schema, stream=stream, options={"num_predict": 200})
        text = "".join(part.message.content for part in answer) if stream else answer.message.content
        value = json.loads(text)
        assert 0 <= value["n"] <= 99 and isinstance(value["ok"], bool)
    answer = client.generate(model=name, prompt="x", format="json", options={"num_predict": 60, "seed": 1})
    assert answer.response.startswith("{")


def test_logprobs(client, server, name):
    answer = client.chat(model=name, messages=USER, options=FEW, logprobs=True, top_logprobs=2)
    assert len(answer.logprobs) >= answer.eval_count > 0
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in answer.logprobs)
    found = lines(server, "/api/chat", model="m", messages=USER, options=FEW, logprobs=True)
    streamed = [entry for line in found for entry in line.get("logprobs", [])]
    assert [entry["token"] for entry in streamed] == [entry.token for entry in answer.logprobs]


# ---- tools ----

CALL = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


def test_history_of_calls(client, name):
    messages = [{"role": "user", "content": "Weather?"},
                {"role": "assistant", "thinking": "Hm.", "tool_calls": [CALL, CALL]},
                {"role": "tool", "tool_name": "get_weather", "content": "12 degrees"},
                {"role": "tool", "content": "13 degrees"}]
    assert client.chat(model=name, messages=messages, tools=[WEATHER], options=FEW).eval_count <= 8
    with pytest.raises(ollama.ResponseError, match=r"messages\[2\]"):
        client.chat(model=name, messages=[messages[0], messages[1], {"role": "tool", "tool_name": "x", "content": "y"}])


def test_call(real, client, server, name):
    needs(client, name, "tools")
    body = {"messages": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": [WEATHER],
            "options": {"temperature": 0, "num_predict": 100}}
    whole = client.chat(model=name, **body)
    call, = whole.message.tool_calls
    assert call.function.name == "get_weather" and "Paris" in call.function.arguments["city"]
    assert whole.done_reason == "stop"
    parts = [part.message.tool_calls for part in client.chat(model=name, stream=True, **body) if part.message.tool_calls]
    assert parts == [[call]]
    assert "id" not in lines(server, "/api/chat", model="m", **body)[-2]["message"]["tool_calls"][0]


# ---- generate ----

def test_generate(client, name):
    whole = client.generate(model=name, prompt="Hello", system="Be brief.", options=FEW)
    assert whole.done and whole.model == name and whole.context is None
    parts = list(client.generate(model=name, prompt="Hello", system="Be brief.", options=FEW, stream=True))
    assert "".join(part.response for part in parts) == whole.response and parts[-1].eval_count == whole.eval_count
    chat = client.chat(model=name, messages=[{"role": "system", "content": "Be brief."},
                                             {"role": "user", "content": "Hello"}], options=FEW)
    assert chat.message.content == whole.response and chat.prompt_eval_count == whole.prompt_eval_count


def test_raw_is_a_completion(client, server, name):
    raw = client.generate(model=name, prompt="Once upon", raw=True, options=FEW)
    _, _, plain = server.complete("Once upon", max_tokens=8, temperature=0)
    assert raw.response == plain["choices"][0]["text"]
    assert raw.prompt_eval_count == plain["usage"]["prompt_tokens"]


def test_suffix_fills_in_the_middle(client, server, name):
    needs(client, name, "insert")
    filled = client.generate(model=name, prompt="def add(a, b):\n", suffix="\n    return c", options=FEW)
    _, _, plain = server.complete("def add(a, b):\n", suffix="\n    return c", max_tokens=8, temperature=0)
    assert filled.response == plain["choices"][0]["text"]
    assert filled.prompt_eval_count == plain["usage"]["prompt_tokens"]


# ---- thinking ----

@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinker")
    (folder / "template").write_text(TEMPLATE)
    subprocess.run([os.environ["TINY_MODEL"], str(folder / "model.gguf"), "--context", "2048", "--template",
                    str(folder / "template")], check=True)
    server = Server(folder / "model.gguf")
    yield server
    assert server.stop() == 0, server.log


def test_thinking(thinker):
    client = client_of(thinker)
    options = {"num_predict": 20, "seed": 1}
    assert "thinking" in client.show("model").capabilities
    for think in (None, True, "high"):
        answer = client.chat(model="model", messages=USER, think=think, options=options)
        assert answer.message.thinking and answer.message.content == ""
    parts = list(client.chat(model="model", messages=USER, think=True, options=options, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == \
        client.chat(model="model", messages=USER, think=True, options=options).message.thinking
    answer = client.chat(model="model", messages=USER, think=False, options=options)
    assert answer.message.thinking is None and answer.message.content
    answer = client.generate(model="model", prompt="x", options=options)
    assert answer.thinking and answer.response == ""


# ---- models ----

def test_list_and_show(client, name, model):
    listed, = client.list().models
    assert listed.model == name == f"{name.split(':')[0]}:latest" and re.fullmatch("[0-9a-f]{64}", listed.digest)
    assert listed.size > 0 and listed.modified_at.year > 2000
    assert listed.details.format == "gguf" and listed.details.quantization_level
    assert re.fullmatch(r"[0-9.]+[MB]", listed.details.parameter_size)
    shown = client.show(name)
    family = listed.details.family
    assert shown.details == listed.details and shown.template
    assert shown.modelinfo["general.architecture"] == family
    assert shown.modelinfo[f"{family}.context_length"] > 0 and shown.modelinfo["general.parameter_count"] > 0
    assert shown.modelinfo["tokenizer.ggml.tokens"] is None and "tokenizer.chat_template" not in shown.modelinfo
    assert shown.capabilities[0] == "completion" and set(shown.capabilities) <= {"completion", "tools", "insert",
                                                                                 "thinking"}


def test_the_host_comes_from_the_environment(server, name, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url.removesuffix("/v1"))
    assert ollama.Client().list().models[0].model == name


def test_small_answers(server):
    status, _, data = server.get("/api/version")
    assert status == 200 and re.fullmatch(r"\d+\.\d+\.\d+", json.loads(data)["version"])
    for method in ("GET", "HEAD"):
        assert server.request(method, "/")[0] == 200
    assert server.post("/api/show", {"name": "m"})[0] == 200


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_how_long_a_model_stays(client, server, name):
    def running():
        return client.ps().models

    assert client.generate(model=name).done_reason == "load"
    loaded, = running()
    assert loaded.model == name and loaded.size > 0 and loaded.context_length > 0 and loaded.expires_at.year > 2200
    assert client.chat(model=name, messages=USER, options=FEW, keep_alive="10m").done
    left = running()[0].expires_at - datetime.now(timezone.utc)
    assert timedelta(minutes=5) < left < timedelta(minutes=15)
    answer = client.chat(model=name, messages=[], keep_alive=0)
    assert answer.done and answer.done_reason == "unload"
    wait_for(lambda: not running())
    assert client.list().models[0].model == name and client.show(name).details.family
    assert client.chat(model=name, messages=USER, options=FEW, keep_alive=0).done
    wait_for(lambda: not running())
    assert server.chat()[0] == 200
    assert running()[0].expires_at.year > 2200


def test_an_unload_waits_for_those_who_use_the_model(client, server, name):
    with server.start_stream(**LONG) as stream:
        read_until(stream, b'"content":')
        assert client.generate(model=name, keep_alive=0).done_reason == "unload"
        read_until(stream, b'"content":')
        assert client.ps().models
    wait_for(lambda: not client.ps().models)
    assert client.generate(model=name).done_reason == "load"


def test_several_models(tmp_path):
    for seed, name in enumerate(["one", "two"]):
        subprocess.run([os.environ["TINY_MODEL"], str(tmp_path / f"{name}.gguf"), "--context", "512", "--seed",
                        str(seed + 1)], check=True)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    server = Server(tmp_path)
    client = client_of(server)
    assert {model.model for model in client.list().models} == {"one:latest", "two:latest", "broken:latest"}
    assert client.show("two").details.family and not client.ps().models
    for name in ("two", "two:latest"):
        assert client.chat(model=name, messages=USER, options=FEW).model == "two:latest"
    assert [model.model for model in client.ps().models] == ["two:latest"]
    for call in (lambda: client.show("three"), lambda: client.chat(model="three:latest", messages=USER),
                 lambda: client.chat(model="two:3b", messages=USER)):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == 404 and "does not exist" in caught.value.error
    with pytest.raises(ollama.ResponseError) as caught:
        client.show("broken")
    assert caught.value.status_code >= 400
    assert server.stop() == 0, server.log


# ---- errors ----

@pytest.mark.parametrize("members, named", [
    ({"messages": "x"}, "'messages'"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "messages[0].images"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
     "messages[0].tool_calls[0].function.arguments"),
    ({"options": {"temperature": "hot"}}, "options.temperature"),
    ({"options": {"stop": [1]}}, "options.stop"),
    ({"options": {"num_ctx": "large"}}, "options.num_ctx"),
    ({"options": []}, "'options'"),
    ({"stream": "yes"}, "'stream'"),
    ({"format": "xml"}, "'format'"),
    ({"format": {"not": {}}}, "not"),
    ({"think": 5}, "'think'"),
    ({"keep_alive": "soon"}, "keep_alive"),
    ({"tools": [{"type": "web"}]}, "tools[0].type"),
    ({"messages": [{"role": "user", "content": "word " * 40000}]}, "context"),
])
def test_errors_are_text(server, members, named):
    status, headers, body = server.post("/api/chat", {"model": "m", "messages": USER, **members})
    assert status == 400 and headers["Content-Type"] == "application/json"
    assert list(body) == ["error"] and named in body["error"], body


def test_errors_beside_the_body(client, server, name):
    status, _, body = server.post("/api/chat", "{")
    assert status == 400 and isinstance(body["error"], str)
    assert isinstance(server.post("/api/colour", {})[2]["error"], str)
    status, _, data = server.get("/api/chat")
    assert status == 405 and isinstance(json.loads(data)["error"], str)
    with pytest.raises(ollama.ResponseError) as caught:
        client.generate(model=name, prompt="x", template="{{ .Prompt }}")
    assert caught.value.status_code == 400 and "template" in caught.value.error


def test_null_and_unknown_are_absent(server):
    body = {"model": None, "messages": USER, "stream": None, "options": {"num_predict": 1, "top_k": None, "colour": 1},
            "format": None, "think": None, "keep_alive": None, "tools": None, "truncate": True}
    assert server.request("POST", "/api/chat", body)[0] == 200


def test_keys(model):
    server = Server(model, "--api-key", "secret")
    base = server.url.removesuffix("/v1")
    with pytest.raises(ollama.ResponseError) as caught:
        ollama.Client(host=base).list()
    assert caught.value.status_code == 401
    assert ollama.Client(host=base, headers={"Authorization": "Bearer secret"}).list().models
    assert server.stop() == 0
