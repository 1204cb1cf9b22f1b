"""Everyday prompts with everyday tools: forced calls parse and validate, and their deltas put together are the message.
All hundred with --long; else a few."""
import itertools
import json
import os

import jsonschema
import openai
import pytest

LONG = os.environ.get("HEARTH_TEST_LONG") == "1"


def tool(name, description, required, **properties):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": required, "additionalProperties": False}}}


TEXT, COUNT, FLAG = {"type": "string", "maxLength": 60}, {"type": "integer", "minimum": 0, "maximum": 500}, {"type": "boolean"}
DAY = {"type": "string", "format": "date"}
TOOLS = {t["function"]["name"]: t for t in [
    tool("get_weather", "The weather at a place", ["city"], city=TEXT, unit={"enum": ["celsius", "fahrenheit"]}),
    tool("search", "Searches the web", ["query"], query=TEXT, pages={"type": "integer", "minimum": 1, "maximum": 5}),
    tool("send_mail", "Sends a mail", ["to", "subject", "body"], to={"type": "array", "items": TEXT, "minItems": 1, "maxItems": 3},
         subject=TEXT, body={"type": "string", "maxLength": 120}),
    tool("book_table", "Books a table in a restaurant", ["people", "day"], people=COUNT, day=DAY, outside=FLAG),
    tool("set_timer", "Rings after some minutes", ["minutes"], minutes={"type": "number", "exclusiveMinimum": 0, "maximum": 600},
         label=TEXT),
    tool("add_items", "Puts things on the shopping list", ["items"], items={"type": "array", "minItems": 1, "maxItems": 4, "items": {
        "type": "object", "properties": {"name": TEXT, "count": COUNT}, "required": ["name"], "additionalProperties": False}}),
    tool("translate", "Translates a text", ["text", "into"], text=TEXT, into={"enum": ["de", "fr", "es", "日本語"]}),
    tool("lights", "Switches lights", ["rooms", "on"], on=FLAG,
         rooms={"type": "array", "items": {"enum": ["kitchen", "hall", "garden"]}, "minItems": 1, "maxItems": 3}),
    tool("query", "Asks the database", ["table"], table={"enum": ["orders", "customers"]}, where={"anyOf": [{"type": "null"}, {
        "type": "object", "properties": {"column": TEXT, "is": {"anyOf": [TEXT, COUNT]}}, "required": ["column", "is"],
        "additionalProperties": False}]}),
    tool("play", "Plays music", [], artist=TEXT, volume={"type": "integer", "minimum": 0, "maximum": 11}),
]}
ASKED = ["What is the weather in Zürich tomorrow?", "Find three articles about sourdough.", "Tell Ada that the train is late.",
         "A table for four next Friday, outside please.", "Wake me in 25 minutes.", "We need eggs, 2 l of milk and bread.",
         'How do you say "good morning" in French?', "It is dark in the hall.", "Which orders are older than a week?",
         "Something by Nina Simone, not too loud."]
PROMPTS = list(itertools.product(ASKED, ["required", *list(TOOLS)[::2], "required", "get_weather", "query", "add_items"]))
assert len(PROMPTS) == 100


def put_together(stream):
    """The calls of a streamed message, and why it ended."""
    calls, reason = {}, None
    for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(delta.index, {"name": "", "arguments": ""})
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
        reason = chunk.choices[0].finish_reason or reason
    return [calls[i] for i in sorted(calls)], reason


@pytest.mark.parametrize("number", range(0, 100, 1 if LONG else 17))
def test_calls(one_server, number):
    text, choice = PROMPTS[number]
    client = openai.OpenAI(base_url=one_server.url, api_key="none", max_retries=0, timeout=120)
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "tools": list(TOOLS.values()), "seed": number,
            "max_tokens": 1500, "parallel_tool_calls": False,
            "tool_choice": choice if choice == "required" else {"type": "function", "function": {"name": choice}}}
    whole = client.chat.completions.create(**body).choices[0]
    calls, reason = put_together(client.chat.completions.create(**body, stream=True))
    assert [{"name": c.function.name, "arguments": c.function.arguments} for c in whole.message.tool_calls] == calls
    assert whole.finish_reason == reason == "tool_calls"
    [call] = calls
    assert choice in ("required", call["name"])
    jsonschema.validate(json.loads(call["arguments"]), TOOLS[call["name"]]["function"]["parameters"])
