"""OpenAI's /v1/responses through the official client, whose types are the specification of every object and event."""
import json
import os
import random
import signal
import sqlite3
import stat
import threading
import time

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from conftest import Server, post_bytes, read_all

EVENT = TypeAdapter(ResponseStreamEvent)
KILLS = 50
WEATHER = {"type": "function", "name": "get_weather", "description": "The weather in a city.", "strict": True,
           "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]},
                                                           "celsius": {"type": "boolean"}},
                          "required": ["city", "celsius"], "additionalProperties": False}}


@pytest.fixture(scope="module")
def kept(model, tmp_path_factory):
    server = Server(model, "--store", str(tmp_path_factory.mktemp("store") / "responses.db"))
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def client(kept):
    return openai.OpenAI(base_url=kept.url, api_key="none", max_retries=0)


@pytest.fixture
def plain(server):
    """A server that keeps nothing."""
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def named_events(data):
    """The events of a stream as (name, object), each checked against the client's types."""
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        lines = [line for line in event.split("\n") if not line.startswith(":")]
        if not lines:
            continue
        assert len(lines) == 2 and lines[0].startswith("event: ") and lines[1].startswith("data: "), event
        item = json.loads(lines[1][6:])
        assert item["type"] == lines[0][7:]
        EVENT.validate_python(item)
        found.append((item["type"], item))
    return found


def stream(server, **body):
    status, headers, data = server.request("POST", "/v1/responses", {"model": "m", "stream": True, **body})
    assert status == 200 and headers["Content-Type"] == "text/event-stream", data
    return named_events(data)


def same(response):
    """What two responses to the same request have in common."""
    found = json.loads(json.dumps(response if isinstance(response, dict) else response.to_dict()))
    for item in found["output"]:
        for name in ("id", "call_id", "parsed_arguments"):
            item.pop(name, None)
        for part in item.get("content") or []:
            part.pop("parsed", None)
    return {name: found[name] for name in ("status", "output", "incomplete_details", "tools", "tool_choice")} | {
        "tokens": found["usage"]["output_tokens"]}


def text_of(response):
    return "".join(part.text for item in response.output if item.type == "message" for part in item.content)


def test_whole(client, kept):
    body = {"model": "m", "input": "What is the capital of France?", "max_output_tokens": 12, "temperature": 0,
            "instructions": "Be brief.", "metadata": {"who": "me"}, "user": "u"}
    status, headers, whole = kept.post("/v1/responses", body)
    assert status == 200 and headers["X-Request-Id"] == whole["id"]
    parsed = Response.model_validate(whole)
    assert parsed.id.startswith("resp_") and parsed.object == "response"
    assert parsed.instructions == "Be brief." and parsed.metadata == {"who": "me"} and parsed.user == "u"
    assert parsed.status == ("incomplete" if parsed.usage.output_tokens == 12 else "completed")
    assert parsed.usage.total_tokens == parsed.usage.input_tokens + parsed.usage.output_tokens
    assert parsed.usage.input_tokens_details.cached_tokens >= 0
    item = parsed.output[-1]
    assert item.type == "message" and item.role == "assistant" and item.status == parsed.status
    assert same(client.responses.create(**body)) == same(parsed)


def test_stream_has_every_event_in_order(kept):
    found = stream(kept, input="Hello", max_output_tokens=10, seed=3)
    names = [name for name, _ in found]
    assert [event["sequence_number"] for _, event in found] == list(range(len(found)))
    deltas = [event["delta"] for name, event in found if name == "response.output_text.delta"]
    assert names == (["response.created", "response.in_progress", "response.output_item.added",
                      "response.content_part.added"] + ["response.output_text.delta"] * len(deltas) +
                     ["response.output_text.done", "response.content_part.done", "response.output_item.done"] +
                     names[-1:])
    last = found[-1][1]["response"]
    assert names[-1] == f"response.{last['status']}" and last["status"] in ("completed", "incomplete")
    assert "".join(deltas) == last["output"][0]["content"][0]["text"]
    by_name = dict(found)
    assert by_name["response.output_text.done"]["text"] == "".join(deltas)
    assert by_name["response.output_item.done"]["item"] == last["output"][0]
    assert by_name["response.content_part.done"]["part"] == last["output"][0]["content"][0]
    assert by_name["response.created"]["response"]["status"] == "in_progress"
    assert len({event["response"]["id"] for _, event in found if "response" in event}) == 1


def test_stream_equals_whole(client, kept):
    for seed in range(3):
        body = {"model": "m", "input": "Tell me a story.", "max_output_tokens": 24, "seed": seed}
        whole = kept.post("/v1/responses", body)[2]
        assert same(stream(kept, **body)[-1][1]["response"]) == same(whole)
        with client.responses.stream(model="m", input=body["input"], max_output_tokens=24,
                                     extra_body={"seed": seed}) as events:
            seen = list(events)
        final = seen[-1].response
        assert same(final) == same(whole)
        assert "".join(e.delta for e in seen if e.type == "response.output_text.delta") == text_of(final)


def test_logprobs(kept):
    body = {"model": "m", "input": "Hello", "max_output_tokens": 5, "temperature": 0, "top_logprobs": 2,
            "include": ["message.output_text.logprobs"]}
    whole = kept.post("/v1/responses", body)[2]
    part = Response.model_validate(whole).output[0].content[0]
    assert 4 <= len(part.logprobs) <= 5 and all(len(entry.top_logprobs) == 2 for entry in part.logprobs)
    found = stream(kept, **body)
    assert same(found[-1][1]["response"]) == same(whole)
    deltas = [entry for name, event in found if name == "response.output_text.delta" for entry in event["logprobs"]]
    assert deltas == whole["output"][0]["content"][0]["logprobs"]


def test_stop_and_incomplete(client):
    cut = client.responses.create(model="m", input="Hello", max_output_tokens=3, extra_body={"ignore_eos": True})
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"
    assert cut.usage.output_tokens == 3 and cut.completed_at is None


def test_structured_output(client, kept):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
              "required": ["n"], "additionalProperties": False}
    text = {"format": {"type": "json_schema", "name": "number", "schema": schema, "strict": True}}
    answer = client.responses.create(model="m", input="A number.", text=text, max_output_tokens=64)
    assert answer.status == "completed" and 0 <= json.loads(answer.output_text)["n"] <= 99
    assert answer.text.format.type == "json_schema" and answer.text.format.name == "number"
    events = stream(kept, input="A number.", text=text, max_output_tokens=64)
    assert set(json.loads(events[-1][1]["response"]["output"][0]["content"][0]["text"])) == {"n"}


# ---- tools ----

def test_required_call(client, kept):
    for choice in ("required", {"type": "function", "name": "get_weather"}):
        body = {"model": "m", "input": "Weather in Paris?", "tools": [WEATHER], "tool_choice": choice,
                "parallel_tool_calls": False, "max_output_tokens": 200, "seed": 5}
        whole = Response.model_validate(kept.post("/v1/responses", body)[2])
        call = whole.output[-1]
        assert call.type == "function_call" and call.name == "get_weather" and call.status == "completed"
        assert call.id.startswith("fc_") and call.call_id.startswith("call_")
        assert json.loads(call.arguments)["city"] in ("Paris", "Rome")
        assert whole.tools[0].name == "get_weather"
        found = stream(kept, **body)
        assert same(found[-1][1]["response"]) == same(whole)
        names = [name for name, _ in found if name.startswith("response.function_call")]
        assert names[-1] == "response.function_call_arguments.done" and len(names) >= 2
        assert "".join(event["delta"] for name, event in found if name.endswith("arguments.delta")) == call.arguments


def test_client_accumulates_a_call(client):
    with client.responses.stream(model="m", input="Weather?", tools=[WEATHER], tool_choice="required",
                                 parallel_tool_calls=False, max_output_tokens=200) as events:
        seen = list(events)
    call = seen[-1].response.output[-1]
    snapshots = [e.snapshot for e in seen if e.type == "response.function_call_arguments.delta"]
    assert snapshots[-1] == call.arguments and call.parsed_arguments["city"] in ("Paris", "Rome")


def test_history_of_calls(client):
    items = [{"role": "user", "content": "Weather in Paris?"},
             {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
             {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
             {"type": "function_call_output", "call_id": "call_1", "output": "12 degrees"},
             {"role": "assistant", "content": [{"type": "output_text", "text": "Cold.", "annotations": []}]},
             {"role": "user", "content": [{"type": "input_text", "text": "And "},
                                          {"type": "input_text", "text": "Rome?"}]}]
    answer = client.responses.create(model="m", input=items, tools=[WEATHER], max_output_tokens=4)
    listed = list(client.responses.input_items.list(answer.id, order="asc"))
    assert [item.type for item in listed] == ["message", "reasoning", "function_call", "function_call_output", "message",
                                              "message"]
    assert len({item.id for item in listed}) == len(items) and listed[1].id == "rs_1"


# ---- errors ----

@pytest.mark.parametrize("members, param", [
    ({"input": None}, "input"),
    ({"input": 7}, "input"),
    ({"input": []}, "input"),
    ({"input": [7]}, "input[0]"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": 1}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
    ({"input": [{"type": "computer_call"}]}, "input[0].type"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [
        {"type": "function", "name": "other"}]}}, "tool_choice"),
    ({"text": {"format": {}}}, "text.format.type"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"include": ["everything"]}, "include[0]"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"truncation": "auto"}, "truncation"),
    ({"background": True}, "background"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"previous_response_id": 5}, "previous_response_id"),
])
def test_wrong_members_are_named(client, members, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "m", "input": "x", "extra_body": members})
    assert caught.value.param == param and caught.value.type == "invalid_request_error", caught.value
    if param == "tools[0].type":
        assert "web_search" in str(caught.value)


def test_null_and_unknown_are_absent(kept):
    body = {"model": None, "input": "x", "max_output_tokens": 1, "tools": None, "text": None, "reasoning": None,
            "include": None, "store": None, "metadata": None, "previous_response_id": None, "colour": "red",
            "background": False, "text.verbosity": 1, "service_tier": "auto"}
    assert kept.post("/v1/responses", body)[0] == 200


def test_too_long(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="word " * 20000)
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "input"


def test_input_tokens(client):
    counted = client.responses.input_tokens.count(model="m", input="Hello")
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == client.responses.create(model="m", input="Hello",
                                                           max_output_tokens=1).usage.input_tokens


# ---- the store ----

def test_goes_on(client):
    first = client.responses.create(model="m", input="My name is Ada.", max_output_tokens=6, instructions="Be kind.",
                                    temperature=0)
    second = client.responses.create(model="m", input="Who am I?", previous_response_id=first.id, max_output_tokens=6,
                                     temperature=0)
    assert second.previous_response_id == first.id and second.instructions is None
    whole = [{"role": "user", "content": "My name is Ada."}, *[item.to_dict() for item in first.output],
             {"role": "user", "content": "Who am I?"}]
    sent = client.responses.create(model="m", input=whole, max_output_tokens=1, store=False)
    assert sent.usage.input_tokens == second.usage.input_tokens
    reference = [{"role": "user", "content": "My name is Ada."},
                 *[{"type": "item_reference", "id": item.id} for item in first.output],
                 {"role": "user", "content": "Who am I?"}]
    referred = client.responses.create(model="m", input=reference, max_output_tokens=1)
    assert referred.usage.input_tokens == second.usage.input_tokens
    third = client.responses.create(model="m", input="And?", previous_response_id=second.id, max_output_tokens=2)
    assert third.usage.input_tokens > second.usage.input_tokens


def test_retrieve_list_delete(client):
    made = client.responses.create(model="m", input=[{"role": "user", "content": f"{i}"} for i in range(5)],
                                   max_output_tokens=4)
    assert client.responses.retrieve(made.id) == made
    listed = client.responses.input_items.list(made.id, limit=2)
    assert listed.has_more and [item.content[0].text for item in listed.data] == ["4", "3"]
    assert [item.content[0].text for item in listed] == ["4", "3", "2", "1", "0"]
    ascending = client.responses.input_items.list(made.id, order="asc")
    assert [item.content[0].text for item in ascending] == ["0", "1", "2", "3", "4"]
    client.responses.delete(made.id)
    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="x", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found" and caught.value.param == "previous_response_id"


def test_store_false_is_not_kept(client):
    made = client.responses.create(model="m", input="x", max_output_tokens=1, store=False)
    assert made.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_cancel_and_unknown_routes(client, kept):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.cancel("resp_1")
    assert "background" in str(caught.value)
    assert kept.get("/v1/responses/resp_1/colour")[0] == 404
    assert kept.request("PUT", "/v1/responses/resp_1")[0] == 405
    assert kept.get("/v1/responses")[0] == 405
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="m", input=[{"type": "item_reference", "id": "msg_none"}])


def test_without_a_store(plain):
    made = plain.responses.create(model="m", input="x", max_output_tokens=1)
    assert made.to_dict()["store"] is False
    with pytest.raises(openai.BadRequestError) as caught:
        plain.responses.create(model="m", input="x", previous_response_id=made.id)
    assert "--store" in str(caught.value) and caught.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError) as caught:
        plain.responses.retrieve(made.id)
    assert "--store" in str(caught.value)


def test_store_is_private_and_found_again(model, tmp_path):
    path = tmp_path / "responses.db"
    path.touch(0o644)
    server = Server(model, "--store", str(path))
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    made = client.responses.create(model="m", input="x", max_output_tokens=3)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600} and len(modes) >= 2, modes
    assert server.stop() == 0
    server = Server(model, "--store", str(path))
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    assert client.responses.retrieve(made.id) == made
    assert server.stop() == 0


def test_what_is_no_store_is_refused(model, tmp_path):
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things(x)")
    other.commit()
    other.close()
    text = tmp_path / "text"
    text.write_text("This is no database. " * 300)
    for wrong in (path, text, tmp_path):
        server = Server(model, "--store", str(wrong), wait=False)
        assert server.process.wait(30) == 1 and str(wrong) in server.read_log()


# ---- kill -9 ----

def ask_until_killed(server, number, told, streams):
    """Asks one after the other; notes who was told that it is complete."""
    for i in range(100000):
        marker = f"{number}-{i}"
        body = json.dumps({"model": "m", "input": marker, "max_output_tokens": 2, "stream": streams}).encode()
        try:
            with server.socket(30) as s:
                s.sendall(post_bytes("/v1/responses", body, b"Connection: close\r\n"))
                data = read_all(s)
        except OSError:
            return
        if not streams:
            head, _, rest = data.partition(b"\r\n\r\n")
            try:
                told.append((marker, json.loads(rest)["id"]))
            except (ValueError, KeyError):
                return
            continue
        lines = [line[6:] for line in data.split(b"\r\n") for line in line.split(b"\n") if line.startswith(b"data: ")]
        try:
            last = json.loads(lines[-1])
        except (ValueError, IndexError):
            return
        if last["type"] not in ("response.completed", "response.incomplete"):
            return
        told.append((marker, last["response"]["id"]))


def test_kill(model, tmp_path):
    path, told = tmp_path / "responses.db", []
    chance = random.Random(7)
    for kill in range(KILLS):
        server = Server(model, "--store", str(path))
        threads = [threading.Thread(target=ask_until_killed, args=(server, f"{kill}-{n}", told, n % 2 == 0))
                   for n in range(4)]
        for thread in threads:
            thread.start()
        before, end = len(told), time.monotonic() + 30
        while len(told) < before + 3 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.2)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        for thread in threads:
            thread.join()
    assert len(told) >= 3 * KILLS
    server = Server(model, "--store", str(path))
    for marker, made in told[-20:]:
        assert json.loads(server.get(f"/v1/responses/{made}")[2])["id"] == made
    assert server.stop() == 0
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = [(json.loads(items)[0]["content"][0]["text"], made)
                for made, items in db.execute("SELECT id, input FROM responses")]
    assert set(told) <= set(rows), "reported complete, and lost"
    assert len({marker for marker, _ in rows}) == len(rows), "kept twice"
