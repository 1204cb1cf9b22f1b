"""Reasoning: think blocks beside the content, their bound, and how requests turn them on and off. The model is made up
and never closes a block by itself, so what is expected is exact."""
import json
import os
import subprocess

import pytest

from conftest import Server, events, watched

CHAT = "/v1/chat/completions"
BUDGET = 12
TEMPLATE = """
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.reasoning_content is defined and loop.last %}<think>{{ message.reasoning_content }}</think>{% endif -%}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
<think>
{% if enable_thinking is defined and not enable_thinking %}
</think>

{% endif %}{% endif %}"""


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinker")
    (folder / "template").write_text(TEMPLATE)
    subprocess.run([os.environ["TINY_MODEL"], str(folder / "model.gguf"), "--context", "2048", "--template",
                    str(folder / "template")], check=True)
    server = Server(folder / "model.gguf")
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def server(thinker):
    yield from watched(thinker)


def answer_of(server, **fields):
    status, _, answer = server.chat(**{"max_tokens": 40, "seed": 1, **fields})
    assert status == 200, answer
    return answer


def test_without_an_end_all_is_reasoning(server):
    answer = answer_of(server, max_tokens=20, ignore_eos=True)
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] and message["content"] == ""
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 20


def test_a_budget_ends_it(server):
    answer = answer_of(server, thinking_budget=BUDGET, ignore_eos=True)
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"].strip() and message["content"].strip()
    assert "think>" not in message["content"]
    tokens = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert BUDGET < tokens <= BUDGET + 4, "those before, a line's end, the marker"
    assert answer["usage"]["completion_tokens"] == 40


def test_no_budget_at_all(server):
    message = answer_of(server, thinking_budget=0, ignore_eos=True)["choices"][0]["message"]
    assert "reasoning_content" not in message and message["content"]


def test_streams_are_the_same(server):
    fields = dict(thinking_budget=BUDGET, ignore_eos=True, max_tokens=40, seed=1)
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "stream_options": {"include_usage": True}}
    status, _, data = server.request("POST", CHAT, {**body, **fields})
    assert status == 200
    found = events(data)
    deltas = [e["choices"][0]["delta"] for e in found if e["choices"]]
    kinds = [k for d in deltas[1:] for k in d]
    assert kinds == sorted(kinds, reverse=True), "reasoning comes before content"
    whole = answer_of(server, **fields)
    for name in ("reasoning_content", "content"):
        assert "".join(d.get(name, "") for d in deltas) == whole["choices"][0]["message"][name]
    assert found[-1]["usage"]["completion_tokens_details"] == whole["usage"]["completion_tokens_details"]


@pytest.mark.parametrize("fields", [{"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}])
def test_turned_off(server, fields):
    answer = answer_of(server, **fields, ignore_eos=True)
    assert "reasoning_content" not in answer["choices"][0]["message"] and answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_formats_hold_behind_it(server):
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
    answer = answer_of(server, thinking_budget=BUDGET, max_tokens=150, response_format={
        "type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}})
    message = answer["choices"][0]["message"]
    assert json.loads(message["content"])["a"] in ("x", "y") and message["reasoning_content"]
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_calls_come_behind_it(server):
    tool = {"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}}}
    answer = answer_of(server, thinking_budget=BUDGET, max_tokens=150, tools=[tool], tool_choice="required",
                       parallel_tool_calls=False)
    message = answer["choices"][0]["message"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"])["a"] in (1, 2)
    assert message["content"] is None and message["reasoning_content"]


def test_histories_with_reasoning(server):
    def tokens(message):
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **message}]
        status, _, answer = server.post(CHAT, {"messages": messages, "max_tokens": 1})
        assert status == 200, answer
        return answer["usage"]["prompt_tokens"]
    assert tokens({"reasoning_content": "because"}) == tokens({"reasoning": "because"}) > tokens({"reasoning": None})
    status, _, answer = server.chat(messages=[{"role": "assistant", "content": "b", "reasoning": 5}])
    assert status == 400 and answer["error"]["param"] == "messages[0].reasoning"


def test_going_on_with_reasoning(server):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>I was"}]
    answer = answer_of(server, messages=messages, continue_final_message=True, ignore_eos=True, max_tokens=10)
    assert answer["choices"][0]["message"]["reasoning_content"]
    messages[1]["content"] = "<think>I was</think>It is"
    answer = answer_of(server, messages=messages, continue_final_message=True, ignore_eos=True, max_tokens=10)
    assert "reasoning_content" not in answer["choices"][0]["message"]


@pytest.mark.parametrize("fields,param", [({"thinking_budget": -1}, "thinking_budget"), ({"thinking_budget": "x"}, "thinking_budget"),
                                          ({"reasoning_effort": "huge"}, "reasoning_effort"), ({"reasoning_effort": 1}, "reasoning_effort")])
def test_wrong_values_are_named(server, fields, param):
    status, _, answer = server.chat(**fields)
    assert status == 400 and answer["error"]["param"] == param, answer
