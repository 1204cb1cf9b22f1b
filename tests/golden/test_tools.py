"""Tool calls of a real model: whatever it is asked, a call that is required parses and keeps to its schema, and the
deltas of a stream put together are the whole message. Five prompts; HEARTH_TEST_LONG=1: a hundred."""
import importlib.util
import json
import os
from pathlib import Path

import jsonschema
import openai
import pytest

COUNT = 100 if os.environ.get("HEARTH_TEST_LONG") == "1" else 5


def function(name, description, required, /, **properties):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": required, "additionalProperties": False}}}


TEXT, WHOLE, REAL, TRUTH = ({"type": t} for t in ("string", "integer", "number", "boolean"))
GROUPS = [
    ([function("get_weather", "The weather of a city.", ["city"], city=TEXT, unit={"enum": ["celsius", "fahrenheit"]}),
      function("get_time", "The time in a city.", ["city"], city=TEXT)],
     ["What is the weather in {}?", "How warm is {} today, in fahrenheit?", "What time is it in {}?", "Should I take a coat to {}?",
      "Compare the weather of {} and Rome."], ["Paris", "Tōkyō", "New York", "\"Quoted\\Town\"", "Köln"]),
    ([function("send_mail", "Sends a mail.", ["to", "subject", "body"], subject=TEXT, body=TEXT, urgent=TRUTH,
               to={"type": "array", "items": TEXT, "minItems": 1, "maxItems": 3}),
      function("find_contact", "Looks for a person.", ["name"], name=TEXT)],
     ["Tell {} that I am late.", "Write to {} that the meeting is moved to Monday.", "Who is {}?", "Invite {} and Bob to dinner.",
      "Send {} a short poem about C."], ["Alice", "Zoë", "the whole team", "anna@example.org", "李雷"]),
    ([function("add", "Adds numbers.", ["numbers"], numbers={"type": "array", "items": REAL, "minItems": 2, "maxItems": 6}),
      function("power", "Raises to a power.", ["base", "exponent"], base=REAL, exponent={"type": "integer", "minimum": 0, "maximum": 9})],
     ["What is {} plus 4?", "Square {}.", "Add {}, 3 and 5.5.", "What is {} to the power of three?", "Compute with {}."],
     ["2", "-17", "3.25", "a million", "0"]),
    ([function("query", "Searches a shop's database.", ["filter", "limit"], limit={"type": "integer", "minimum": 1, "maximum": 50},
               filter={"type": "object", "properties": {"field": {"enum": ["name", "price", "stock"]}, "value": {"anyOf": [TEXT, WHOLE]},
                       "order": {"type": ["string", "null"], "enum": ["up", "down", None]}},
                       "required": ["field", "value"], "additionalProperties": False})],
     ["Find {}.", "Which products called {} are there? At most 3.", "Show ten {} by price, cheapest first.",
      "Is there any {} in stock?", "List {}."], ["lamps", "red shoes", "C books", "tea for less than 5", "'; DROP TABLE"]),
]
PROMPTS = [(tools, question.format(what)) for tools, questions, whats in GROUPS for question in questions for what in whats]


def api_server(model):
    path = Path(__file__).parent.parent / "api/conftest.py"
    spec = importlib.util.spec_from_file_location("api_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Server(model)


@pytest.fixture(scope="module")
def client():
    server = api_server("qwen2.5-coder-0.5b")
    yield openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=300)
    assert server.stop() == 0, server.log


def check(call, tools):
    [schema] = [t["function"]["parameters"] for t in tools if t["function"]["name"] == call.function.name]
    jsonschema.validate(json.loads(call.function.arguments), schema)


def calls_of(message):
    return [(c.function.name, c.function.arguments) for c in message.tool_calls]


@pytest.mark.parametrize("number", range(0, 100, 100 // COUNT))
def test_a_call_that_is_required(client, number):
    tools, question = PROMPTS[number]
    named = {"type": "function", "function": {"name": tools[-1]["function"]["name"]}}
    # One call: a small model may repeat itself for as long as it is let.
    options = dict(model="any", messages=[{"role": "user", "content": question}], tools=tools, seed=number, max_tokens=600,
                   tool_choice=named if number % 2 else "required", parallel_tool_calls=bool(number % 3 == 0))
    whole = client.chat.completions.create(**options).choices[0]
    calls = whole.message.tool_calls
    assert whole.message.content is None and calls
    assert whole.finish_reason == "tool_calls" or (options["parallel_tool_calls"] and len(calls) > 1), whole
    for call in calls if whole.finish_reason == "tool_calls" else calls[:-1]:
        check(call, tools)
    found = {}
    for chunk in client.chat.completions.create(**options, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            name, arguments = found.get(delta.index, ("", ""))
            found[delta.index] = (name + (delta.function.name or ""), arguments + delta.function.arguments)
    assert list(found.values()) == calls_of(whole.message)
