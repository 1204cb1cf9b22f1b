"""Anthropic's /v1/messages through the official client, whose types are the specification of every object and event."""
import json

import anthropic
import pytest
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from pydantic import TypeAdapter

from conftest import Server

EVENT = TypeAdapter(RawMessageStreamEvent)
USER = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {"name": "get_weather", "description": "The weather in a city.",
           "input_schema": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]},
                                                             "celsius": {"type": "boolean"}},
                            "required": ["city", "celsius"], "additionalProperties": False}}


@pytest.fixture(scope="module")
def server(model):
    server = Server(model)
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def client(server):
    return anthropic.Anthropic(base_url=server.url.removesuffix("/v1"), api_key="none", max_retries=0)


def raw_stream(server, **body):
    """The events as (name, object), each checked against the client's types."""
    status, headers, data = server.request("POST", "/v1/messages", {"model": "m", "stream": True, **body})
    assert status == 200 and headers["Content-Type"] == "text/event-stream", data
    assert headers["Request-Id"]
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        if event.startswith(":"):
            continue
        name, line = event.split("\n")
        item = json.loads(line.removeprefix("data: "))
        assert name == "event: " + item["type"]
        EVENT.validate_python(item)
        found.append((item["type"], item))
    return found


def same(message):
    """What two answers to the same request have in common."""
    found = message if isinstance(message, dict) else message.to_dict()
    content = [{name: value for name, value in block.items() if name not in ("id", "parsed_output", "citations")}
               for block in found["content"]]
    return content, found["stop_reason"], found["stop_sequence"], found["usage"]["output_tokens"]


def test_whole(client, server):
    body = {"model": "m", "max_tokens": 8, "messages": USER, "system": "Be brief.", "metadata": {"user_id": "u"}}
    sampling = {"temperature": 0, "top_k": 5, "top_p": 0.9}  # the client has them no more; older ones do
    status, headers, whole = server.post("/v1/messages", {**body, **sampling})
    assert status == 200 and headers["Request-Id"] == whole["id"]
    message = Message.model_validate(whole)
    assert message.id.startswith("msg_") and message.type == "message" and message.role == "assistant"
    assert message.stop_reason in ("end_turn", "max_tokens") and message.usage.output_tokens <= 8
    assert all(block.type == "text" for block in message.content)
    assert same(client.messages.create(**body, extra_body=sampling)) == same(message)


def test_stream_has_every_event_in_order(server):
    found = raw_stream(server, messages=USER, max_tokens=6, seed=3)
    names = [name for name, _ in found]
    n = names.count("content_block_delta")
    assert names == (["message_start", "content_block_start"] + ["content_block_delta"] * n +
                     ["content_block_stop", "message_delta", "message_stop"])
    start, last = found[0][1]["message"], found[-2][1]
    assert start["content"] == [] and start["stop_reason"] is None and start["usage"]["input_tokens"] > 0
    assert last["delta"]["stop_reason"] in ("end_turn", "max_tokens")
    counts = last["usage"]
    assert counts["input_tokens"] + counts["cache_read_input_tokens"] == start["usage"]["input_tokens"]


def test_stream_equals_whole(client):
    for seed in range(3):
        body = {"model": "m", "max_tokens": 24, "messages": USER, "extra_body": {"seed": seed}}
        whole = client.messages.create(**body)
        with client.messages.stream(**body) as events:
            text = "".join(events.text_stream)
            final = events.get_final_message()
        assert same(final) == same(whole)
        assert text == "".join(block.text for block in whole.content)
        used = [message.usage.input_tokens + message.usage.cache_read_input_tokens for message in (final, whole)]
        assert used[0] == used[1]


def test_stop_sequences(client):
    options = {"model": "m", "max_tokens": 30, "messages": USER, "extra_body": {"ignore_eos": True, "temperature": 0}}
    text = client.messages.create(**options).content[0].text
    stop = text[len(text) // 2:][:3]
    message = client.messages.create(**options, stop_sequences=["never to come", stop])
    assert message.stop_reason == "stop_sequence" and message.stop_sequence == stop
    assert stop not in "".join(block.text for block in message.content)
    with client.messages.stream(**options, stop_sequences=["never to come", stop]) as events:
        assert same(events.get_final_message()) == same(message)
    assert client.messages.create(**options, stop_sequences=["never to come"]).stop_reason == "max_tokens"


def test_count_tokens(client):
    for body in ({"messages": USER}, {"messages": USER, "system": "Be brief."},
                 {"messages": USER, "tools": [{**WEATHER}]}):
        counted = client.messages.count_tokens(model="m", **body).input_tokens
        usage = client.messages.create(model="m", max_tokens=1, **body).usage
        assert counted == usage.input_tokens + usage.cache_read_input_tokens


# ---- tools ----

@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_required_call(client, server, choice):
    body = {"model": "m", "max_tokens": 200, "messages": USER, "tools": [WEATHER],
            "tool_choice": {**choice, "disable_parallel_tool_use": True}, "extra_body": {"seed": 4}}
    whole = client.messages.create(**body)
    call = whole.content[-1]
    assert whole.stop_reason == "tool_use" and call.type == "tool_use" and call.name == "get_weather"
    assert call.id.startswith("toolu_") and call.input["city"] in ("Paris", "Rome")
    assert isinstance(call.input["celsius"], bool) and len([b for b in whole.content if b.type == "tool_use"]) == 1
    with client.messages.stream(**body) as events:
        seen = list(events)
        assert same(events.get_final_message()) == same(whole)
    assert any(event.type == "input_json" for event in seen)
    found = raw_stream(server, messages=USER, max_tokens=200, seed=4, tools=[WEATHER], tool_choice=body["tool_choice"])
    started = [event["content_block"] for name, event in found if name == "content_block_start"][-1]
    assert started["type"] == "tool_use" and started["input"] == {}
    parts = [event["delta"]["partial_json"] for name, event in found if name == "content_block_delta" and
             event["delta"]["type"] == "input_json_delta"]
    assert json.loads("".join(parts)) == call.input


def test_history_of_calls(client):
    cached = {"cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Weather?", **cached}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {"type": "redacted_thinking", "data": "xyz"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {"city": "Rome"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12 degrees"},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True,
                     "content": [{"type": "text", "text": "no "}, {"type": "text", "text": "sensor"}]},
                    {"type": "text", "text": "So?"}]}]
    assert client.messages.create(model="m", max_tokens=3, messages=messages, tools=[WEATHER]).usage.output_tokens <= 3


def test_structured_output(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"],
              "additionalProperties": False}
    message = client.messages.create(model="m", max_tokens=64, messages=USER,
                                     output_config={"format": {"type": "json_schema", "schema": schema}})
    assert message.stop_reason == "end_turn" and 0 <= json.loads(message.content[0].text)["n"] <= 99


# ---- errors ----

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}


@pytest.mark.parametrize("members, named", [
    ({"messages": []}, "messages"),
    ({"messages": "x"}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, '"image"'),
    ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]},
     "tool_use"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": 1}]}]},
     "messages[0].content[0].input"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [IMAGE]}]}]},
     "messages[0].content[0].content[0].type"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"max_tokens": None}, "max_tokens"),
    ({"system": 5}, "system"),
    ({"stop_sequences": [5]}, "stop_sequences"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "deep"}}, "thinking.type"),
    ({"metadata": {"user_id": 5}}, "metadata.user_id"),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
])
def test_wrong_members_are_named(client, members, named):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=4, messages=USER, extra_body=members)
    assert caught.value.type == "invalid_request_error" and named in caught.value.api_message
    assert caught.value.request_id == caught.value.body["request_id"]


def test_null_and_unknown_are_absent(server):
    body = {"model": None, "max_tokens": 1, "messages": USER, "system": None, "tools": None, "tool_choice": None,
            "thinking": None, "stop_sequences": None, "metadata": None, "colour": "red", "service_tier": "auto",
            "mcp_servers": []}
    assert server.post("/v1/messages", body)[0] == 200


def test_thinking_is_taken(client):
    for thinking in ({"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}):
        assert client.messages.create(model="m", max_tokens=2, messages=USER, thinking=thinking).usage.output_tokens <= 2


def test_errors_beside_the_body(client, server):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=4, messages=[{"role": "user", "content": "word " * 20000}])
    assert "context" in caught.value.api_message
    status, headers, body = server.post("/v1/messages", "{")
    assert status == 400 and body["type"] == "error" and headers["Request-Id"] == body["request_id"]
    assert server.post("/v1/messages/colour", {})[2]["error"]["type"] == "not_found_error"
    status, _, data = server.get("/v1/messages")
    assert status == 405 and json.loads(data)["type"] == "error"


def test_models(client, server):
    listed = client.models.list()
    assert len(listed.data) == 1 and not listed.has_more
    model = ModelInfo.model_validate(client.models.retrieve(listed.data[0].id).to_dict())
    assert model == listed.data[0] and model.max_input_tokens > 0
    assert json.loads(server.get("/v1/models")[2])["object"] == "list"
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.type == "not_found_error"


def test_keys(model):
    server = Server(model, "--api-key", "secret")
    base = server.url.removesuffix("/v1")
    options = {"model": "m", "max_tokens": 1, "messages": USER}
    for key in ({"api_key": "secret"}, {"auth_token": "secret", "api_key": None}):
        assert anthropic.Anthropic(base_url=base, max_retries=0, **key).messages.create(**options).id
    with pytest.raises(anthropic.AuthenticationError) as caught:
        anthropic.Anthropic(base_url=base, max_retries=0, api_key="other").messages.create(**options)
    assert caught.value.type == "authentication_error"
    assert server.stop() == 0
