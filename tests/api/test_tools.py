"""Tool calls: forced ones from a model that knows nothing, their deltas, histories with calls, and what is a 400."""
import json
import os
import subprocess

import jsonschema
import openai
import pytest

from conftest import HEARTH, Server, events

CHAT = "/v1/chat/completions"
LAMP = {"type": "function", "function": {
    "name": "set_lamp", "description": "Switches a lamp.",
    "parameters": {"type": "object", "properties": {"room": {"enum": ["kitchen", "hall", "größer"]}, "on": {"type": "boolean"}},
                   "required": ["room", "on"], "additionalProperties": False}}}
PLAY = {"type": "function", "function": {
    "name": "play", "strict": True,
    "parameters": {"type": "object", "properties": {"song": {"enum": ["a", "b"]}}, "required": ["song"],
                   "additionalProperties": False}}}
STOP = {"type": "function", "function": {"name": "stop_all"}}
TOOLS = [LAMP, PLAY, STOP]
SCHEMAS = {t["function"]["name"]: t["function"].get("parameters", {"type": "object"}) for t in TOOLS}


@pytest.fixture
def server(one_server):
    return one_server


def named(name):
    return {"type": "function", "function": {"name": name}}


def check_call(call):
    assert call["type"] == "function" and call["id"].startswith("call_")
    jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[call["function"]["name"]])


def call_of(server, **fields):
    status, _, answer = server.chat(**{"tools": TOOLS, "max_tokens": 200, "parallel_tool_calls": False, "seed": 1, **fields})
    assert status == 200, answer
    return answer["choices"][0]


@pytest.mark.parametrize("name", ["set_lamp", "play"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_named_function_is_called(server, name, seed):
    choice = call_of(server, tool_choice=named(name), seed=seed)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == name
    check_call(call)


@pytest.mark.parametrize("seed", range(4))
def test_required_is_a_call_of_some_function(server, seed):
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("play"), named("set_lamp")]}}
    choice = call_of(server, tool_choice=allowed, seed=seed, temperature=2)
    [call] = choice["message"]["tool_calls"]
    check_call(call)
    assert call["function"]["name"] in ("play", "set_lamp") and choice["finish_reason"] == "tool_calls"


def test_several_calls(server):
    choice = server.chat(tools=[PLAY], tool_choice="required", max_tokens=300, seed=3)[2]["choices"][0]
    calls = choice["message"]["tool_calls"]
    whole = calls if choice["finish_reason"] == "tool_calls" else calls[:-1]
    for call in whole:
        check_call(call)
    assert len({call["id"] for call in calls}) == len(calls) >= 1


def test_choices_have_calls_of_their_own(server):
    answer = server.chat(tools=TOOLS, tool_choice=named("set_lamp"), n=3, seed=5, temperature=2, max_tokens=200)[2]
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2]
    for choice in answer["choices"]:
        check_call(choice["message"]["tool_calls"][0])
    assert len({c["message"]["tool_calls"][0]["id"] for c in answer["choices"]}) == 3


def test_deltas(server):
    fields = {"tools": TOOLS, "tool_choice": named("set_lamp"), "max_tokens": 200, "seed": 1}
    status, _, data = server.request("POST", CHAT, {"messages": [{"role": "user", "content": "Hello"}], "stream": True, **fields})
    assert status == 200
    deltas = [e["choices"][0]["delta"] for e in events(data)]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert all(set(d) == {"tool_calls"} for d in deltas[1:-1])
    calls = [d["tool_calls"][0] for d in deltas[1:-1]]
    assert all(c["index"] == 0 for c in calls)
    assert calls[0]["function"] == {"name": "set_lamp", "arguments": ""} and calls[0]["type"] == "function"
    assert all(set(c) == {"index", "function"} and set(c["function"]) == {"arguments"} for c in calls[1:])
    assert len(calls) > 3, "arguments come as they are written"
    assert events(data)[-1]["choices"][0]["finish_reason"] == "tool_calls"
    whole = server.chat(**fields)[2]["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert "".join(c["function"]["arguments"] for c in calls) == whole


@pytest.mark.parametrize("choice", ["required", "auto", named("play")])
def test_the_clients_own_accumulation(server, choice):
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    options = dict(model="any", messages=[{"role": "user", "content": "Music"}], tools=[PLAY], tool_choice=choice, seed=9,
                   max_tokens=60)
    whole = client.chat.completions.create(**options)
    try:
        with client.chat.completions.stream(**options) as stream:
            final = stream.get_final_completion()
    except openai.LengthFinishReasonError as error:
        final = error.completion
    a, b = whole.choices[0], final.choices[0]
    assert (a.message.content or "") == (b.message.content or "") and a.finish_reason == b.finish_reason
    assert [(c.function.name, c.function.arguments) for c in a.message.tool_calls or []] == \
        [(c.function.name, c.function.arguments) for c in b.message.tool_calls or []]


def test_logprobs_of_a_call(server):
    choice = call_of(server, tool_choice=named("play"), logprobs=True, top_logprobs=1)
    tokens = b"".join(bytes(t["bytes"]) for t in choice["logprobs"]["content"]).decode()
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] in tokens


def token_id(model, text):
    done = subprocess.run([HEARTH, "tokenize", "-m", model], input=json.dumps(text) + "\n", capture_output=True, text=True,
                          check=True)
    ids = json.loads(done.stdout)
    if len(ids) > 1:
        pytest.skip(f"{text} is no token of this model")
    return ids[0]


@pytest.mark.parametrize("parallel", [True, False])
def test_a_call_that_has_begun_goes_on_as_one(server, model, parallel):
    bias = {str(token_id(model, "<tool_call>")): 100}
    choice = call_of(server, tools=[PLAY, LAMP, STOP], logit_bias=bias, parallel_tool_calls=parallel, max_tokens=150, temperature=0)
    calls = choice["message"]["tool_calls"]
    assert choice["message"]["content"] is None and len(calls) > 1 if parallel else len(calls) == 1
    for call in calls[:-1] if parallel else calls:
        check_call(call)


BARE = """{%- if tools %}Answer with {"name": name, "parameters": object} for {{ tools | tojson }}
{% endif %}{%- for m in messages %}{{ m.role }}: {{ m.content }}
{% endfor %}assistant: """


def test_a_template_with_bare_calls(tmp_path):
    (tmp_path / "template").write_text(BARE)
    subprocess.run([os.environ["TINY_MODEL"], str(tmp_path / "model.gguf"), "--context", "2048", "--template",
                    str(tmp_path / "template")], check=True)
    server = Server(tmp_path / "model.gguf")
    choice = call_of(server, tools=[PLAY, LAMP], tool_choice="required", logprobs=True)
    check_call(choice["message"]["tool_calls"][0])
    text = b"".join(bytes(t["bytes"]) for t in choice["logprobs"]["content"]).decode()
    assert text.startswith('{"name": "') and '"parameters": {' in text
    assert server.stop() == 0, server.log


def test_none_calls_nothing(server):
    message = call_of(server, tool_choice="none", max_tokens=8)["message"]
    assert "tool_calls" not in message and isinstance(message["content"], str)


CALL = {"role": "assistant", "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "play", "arguments": "{\"song\": \"a\"}"}},
                       {"id": "c2", "type": "function", "function": {"name": "stop_all", "arguments": ""}}]}
USER = {"role": "user", "content": "Music"}


def result(call, content="done", **fields):
    return {"role": "tool", "tool_call_id": call, "content": content, **fields}


def test_a_history_with_calls(server):
    messages = [USER, CALL, result("c2"), result("c1", [{"type": "text", "text": "it"}, {"type": "text", "text": " plays"}], name="play"),
                {"role": "assistant", "content": "It plays."}, USER]
    status, _, answer = server.post(CHAT, {"messages": messages, "tools": TOOLS, "max_tokens": 4})
    assert status == 200, answer
    without = server.post(CHAT, {"messages": messages, "max_tokens": 4})
    assert without[0] == 200, "calls of earlier turns need no tools now"


def call_with(**fields):
    return {"role": "assistant", "tool_calls": [{**CALL["tool_calls"][0], **fields}]}


@pytest.mark.parametrize("messages,param", [
    ([USER, result("c1")], "messages[1].tool_call_id"),
    ([USER, CALL, result("c3")], "messages[2].tool_call_id"),
    ([USER, CALL, {"role": "tool", "content": "x"}], "messages[2].tool_call_id"),
    ([USER, CALL, result("c1"), result("c1")], "messages[3].tool_call_id"),
    ([USER, CALL, result("c1"), USER], "messages[3]"),
    ([USER, CALL, USER], "messages[2]"),
    ([USER, CALL, result("c1", None)], "messages[2].content"),
    ([USER, call_with(id=None)], "messages[1].tool_calls[0].id"),
    ([USER, call_with(type="custom")], "messages[1].tool_calls[0].type"),
    ([USER, call_with(function=None)], "messages[1].tool_calls[0].function"),
    ([USER, call_with(function={"arguments": "{}"})], "messages[1].tool_calls[0].function.name"),
    ([USER, call_with(function={"name": "f", "arguments": "{\"a\": "})], "messages[1].tool_calls[0].function.arguments"),
    ([USER, call_with(function={"name": "f", "arguments": "[1]"})], "messages[1].tool_calls[0].function.arguments"),
    ([USER, {"role": "assistant", "tool_calls": "x"}], "messages[1].tool_calls"),
    ([{**USER, "name": 5}], "messages[0].name"),
])
def test_wrong_histories_are_named(server, messages, param):
    status, _, answer = server.post(CHAT, {"messages": messages, "max_tokens": 1})
    assert status == 400 and answer["error"]["param"] == param, answer


@pytest.mark.parametrize("fields,param", [
    ({"tools": 5}, "tools"), ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]}, "tools[0].function.strict"),
    ({"tool_choice": "required"}, "tool_choice"), ({"tool_choice": named("play")}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": named("unknown")}, "tool_choice"), ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": 3}, "tool_choice"), ({"tools": TOOLS, "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"tools": TOOLS, "tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {
        "type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"], "additionalProperties": False}}}]},
     "tools[0].function.parameters"),
])
def test_wrong_tools_are_named(server, fields, param):
    status, _, answer = server.chat(max_tokens=1, **fields)
    assert status == 400 and answer["error"]["param"] == param, answer


def test_a_schema_that_is_not_known_bounds_nothing(server):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}}
    assert server.chat(max_tokens=1, tools=[tool])[0] == 200


def test_continuing_a_message(server):
    messages = [USER, {"role": "assistant", "content": "It is the"}]
    opened = server.post(CHAT, {"messages": messages, "max_tokens": 4, "temperature": 0})[2]
    for fields in ({"continue_final_message": True}, {"add_generation_prompt": False}):
        status, _, answer = server.post(CHAT, {"messages": messages, "max_tokens": 4, "temperature": 0, **fields})
        assert status == 200 and answer["usage"]["prompt_tokens"] < opened["usage"]["prompt_tokens"], answer
    status, _, answer = server.post(CHAT, {"messages": [USER], "max_tokens": 4, "continue_final_message": True})
    assert status == 400 and answer["error"]["param"] == "messages", answer


FUNCTIONS = [tool["function"] for tool in TOOLS]


def test_functions_of_old(server):
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    options = dict(model="any", messages=[{"role": "user", "content": "Light"}], functions=FUNCTIONS, seed=1, max_tokens=200,
                   function_call={"name": "set_lamp"})
    choice = client.chat.completions.create(**options).choices[0]
    assert choice.finish_reason == "function_call" and choice.message.content is None
    assert choice.message.tool_calls is None and choice.message.function_call.name == "set_lamp"
    jsonschema.validate(json.loads(choice.message.function_call.arguments), SCHEMAS["set_lamp"])

    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**options, stream=True)]
    calls = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call]
    assert [call.name for call in calls if call.name] == ["set_lamp"] and len(calls) > 3
    assert "".join(call.arguments for call in calls) == choice.message.function_call.arguments
    assert chunks[-1].finish_reason == "function_call" and not any(chunk.delta.tool_calls for chunk in chunks)

    history = [*options["messages"], choice.message.model_dump(exclude_none=True),
               {"role": "function", "name": "set_lamp", "content": "done"}]
    again = client.chat.completions.create(**{**options, "messages": history, "function_call": "none", "max_tokens": 5})
    assert again.choices[0].message.function_call is None
    old, new = history, [history[0], {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "type": "function", "function": history[1]["function_call"]}]},
        {"role": "tool", "tool_call_id": "1", "name": "set_lamp", "content": "done"}]
    assert server.post("/apply-template", {"messages": old, "functions": FUNCTIONS})[2]["prompt"] == \
        server.post("/apply-template", {"messages": new, "tools": TOOLS})[2]["prompt"]


@pytest.mark.parametrize("history, param", [
    ([{"role": "function", "name": "f", "content": "x"}], "messages[0]"),
    ([{"role": "assistant", "function_call": {"name": "f", "arguments": "{"}}], "messages[0].function_call.arguments"),
    ([{"role": "assistant", "function_call": 3}], "messages[0].function_call"),
    ([{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, {"role": "function", "content": "x"}],
     "messages[1].name")])
def test_old_histories_that_are_wrong(server, history, param):
    status, _, answer = server.post(CHAT, {"messages": history})
    assert status == 400 and answer["error"]["param"] == param, answer
