"""The official OpenAI clients, curl and wrk, unmodified."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import openai
import pytest

HERE = Path(__file__).parent


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


USER = [{"role": "user", "content": "What is the capital of France?"}]


def test_chat(client):
    answer = client.chat.completions.create(model="any", messages=USER, max_tokens=12, temperature=0)
    choice = answer.choices[0]
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert choice.message.role == "assistant" and isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 1 <= answer.usage.completion_tokens <= 12
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_chat_stream_equals_whole(client):
    options = dict(model="any", messages=USER, max_tokens=16, temperature=0, extra_body={"cache_prompt": False})
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].delta.role for c in chunks if c.choices and c.choices[0].delta.role] == ["assistant"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1 and len({c.created for c in chunks}) == 1


def test_several_choices(client):
    chunks = list(client.chat.completions.create(model="any", messages=USER, max_tokens=6, n=3, seed=7, stream=True))
    finishes = [c.choices[0].index for c in chunks if c.choices and c.choices[0].finish_reason]
    assert sorted(finishes) == [0, 1, 2]
    whole = client.chat.completions.create(model="any", messages=USER, max_tokens=6, n=3, seed=7)
    assert [c.index for c in whole.choices] == [0, 1, 2]
    for index in range(3):
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices and c.choices[0].index == index)
        assert text == whole.choices[index].message.content


def test_chat_logprobs(client):
    answer = client.chat.completions.create(model="any", messages=USER, max_tokens=6, temperature=0, logprobs=True,
                                            top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens or answer.choices[0].finish_reason == "stop"
    for entry in content:
        assert len(entry.top_logprobs) == 3 and entry.logprob <= 0
        assert entry.top_logprobs[0].logprob == entry.logprob, "greedy takes the most likely one"
        assert [t.logprob for t in entry.top_logprobs] == sorted((t.logprob for t in entry.top_logprobs), reverse=True)
    assert bytes(b for e in content for b in e.bytes).decode(errors="replace") == answer.choices[0].message.content


def test_completion_echo_scores_a_prompt(client):
    answer = client.completions.create(model="any", prompt="Hello there", max_tokens=0, echo=True, logprobs=2)
    choice = answer.choices[0]
    assert choice.text == "Hello there" and answer.usage.completion_tokens == 0
    assert choice.logprobs.token_logprobs[0] is None
    assert all(x <= 0 for x in choice.logprobs.token_logprobs[1:])
    assert "".join(choice.logprobs.tokens) == "Hello there"
    assert choice.logprobs.text_offset[0] == 0
    assert choice.logprobs.text_offset[1] == len(choice.logprobs.tokens[0])


def test_completion_prompts(client):
    answer = client.completions.create(model="any", prompt=["One", "Two"], n=2, max_tokens=3, seed=1)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    one = client.completions.create(model="any", prompt="Two", n=2, max_tokens=3, seed=1)
    assert [c.text for c in answer.choices[2:]] == [c.text for c in one.choices]
    ids = client.completions.create(model="any", prompt=[[5, 6, 7], [8]], max_tokens=2)
    assert len(ids.choices) == 2 and ids.usage.prompt_tokens == 4


def test_completion_default_length_is_16(client):
    answer = client.completions.create(model="any", prompt="a b c d", temperature=0)
    assert answer.usage.completion_tokens <= 16


def test_models(client, server):
    models = client.models.list().data
    assert len(models) == 1 and models[0].object == "model"
    assert client.models.retrieve(models[0].id).id == models[0].id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


def test_errors_reach_the_client(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="any", messages=USER, temperature=-1)
    assert caught.value.param == "temperature" and caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="any", messages=USER, stream=True, max_tokens="many")
    assert caught.value.param == "max_tokens"


def test_node_client(server):
    node = shutil.which("node")
    if not node or not (HERE.parent / "node/node_modules/openai").exists():
        pytest.skip("node or its openai package is not installed")
    done = subprocess.run([node, HERE.parent / "node/client.mjs", server.url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_curl_without_content_type(server):
    body = json.dumps({"messages": USER, "max_tokens": 2})
    done = subprocess.run(["curl", "-sS", "-w", "%{http_code}", f"{server.url}/chat/completions", "-d", body],
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("200"), done.stdout + done.stderr


def test_curl_large_body_is_continued_at_once(server):
    body = json.dumps({"messages": USER, "max_tokens": 1, "user": "x" * 2_000_000})
    done = subprocess.run(["curl", "-sS", "-o", os.devnull, "-w", "%{http_code} %{time_starttransfer}", "-H",
                           "Expect: 100-continue", f"{server.url}/chat/completions", "-d", "@-"], input=body,
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[0] == "200", done.stdout + done.stderr


def test_curl_streams(server):
    body = json.dumps({"messages": USER, "max_tokens": 3, "stream": True})
    done = subprocess.run(["curl", "-sSN", f"{server.url}/chat/completions", "-d", body], capture_output=True, text=True,
                          timeout=60)
    assert done.stdout.endswith("data: [DONE]\n\n")


def test_wrk_keeps_its_connections(server):
    wrk = shutil.which("wrk")
    if not wrk:
        pytest.skip("wrk is not installed")
    health = server.url.replace("/v1", "/health")
    done = subprocess.run([wrk, "-t1", "-c8", "-d1s", health], capture_output=True, text=True, timeout=60)
    assert "Requests/sec" in done.stdout and "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout
