"""The libraries that people put between their programs and an API, unmodified. What the model says means nothing: their
own types judge the shapes, and what is constrained must parse."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import openai
import pydantic
import pytest

HERE = Path(__file__).parent
WHO = "Light up the hall."
MESSAGES = [{"role": "user", "content": WHO}]


class Lamp(pydantic.BaseModel, extra="forbid"):
    """Switches a lamp."""  # and has no more members, which the model would write for ever
    room: Literal["kitchen", "hall"]
    on: bool


TOOL = {"type": "function", "function": {"name": "set_lamp", "parameters": Lamp.model_json_schema()}}


@pytest.fixture
def server(one_server):
    return one_server


@pytest.fixture
def chat(server):
    langchain = pytest.importorskip("langchain_openai")
    return langchain.ChatOpenAI(base_url=server.url, api_key="none", model="any", temperature=0, max_tokens=300,
                                max_retries=0)


def test_langchain(chat):
    whole = chat.invoke(WHO)
    parts = list(chat.stream(WHO))
    assert isinstance(whole.content, str) and whole.usage_metadata["output_tokens"] in range(1, 301)
    assert len(parts) > 1 and "".join(part.content for part in parts) == whole.content
    assert whole.response_metadata["finish_reason"] in ("stop", "length")


def test_langchain_tools(chat):
    bound = chat.bind_tools([Lamp], tool_choice="required", parallel_tool_calls=False)
    [call] = bound.invoke(WHO).tool_calls
    assert call["name"] == "Lamp" and Lamp.model_validate(call["args"]) and call["id"].startswith("call_")
    total = None
    for part in bound.stream(WHO):
        total = part if total is None else total + part
    assert [(c["name"], c["args"]) for c in total.tool_calls] == [(call["name"], call["args"])]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_structured_output(chat, method):
    assert isinstance(chat.with_structured_output(Lamp, method=method).invoke(WHO), Lamp)


@pytest.fixture
def litellm(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it looks for a price list
    return pytest.importorskip("litellm")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_litellm(litellm, server, provider):
    base = server.url if provider == "openai" else server.url.removesuffix("/v1")
    options = dict(model=f"{provider}/any", api_base=base, api_key="none", messages=MESSAGES, max_tokens=300,
                   temperature=0, num_retries=0)
    whole = litellm.completion(**options)
    parts = list(litellm.completion(**options, stream=True))
    text = whole.choices[0].message.content
    assert isinstance(text, str) and "".join(part.choices[0].delta.content or "" for part in parts) == text
    assert whole.usage.completion_tokens in range(1, 301)
    [call] = litellm.completion(**options, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
                                ).choices[0].message.tool_calls
    assert call.function.name == "set_lamp" and Lamp.model_validate_json(call.function.arguments)


def test_litellm_errors(litellm, server):
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(model="openai/any", api_base=server.url, api_key="none", messages=MESSAGES, temperature=-1)


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_instructor(server, mode):
    instructor = pytest.importorskip("instructor")
    client = instructor.from_openai(openai.OpenAI(base_url=server.url, api_key="none", max_retries=0),
                                    mode=instructor.Mode[mode])
    lamp = client.chat.completions.create(model="any", response_model=Lamp, messages=MESSAGES, max_tokens=300,
                                          temperature=0, max_retries=0)
    assert isinstance(lamp, Lamp)


def test_llm(server, tmp_path):
    pytest.importorskip("llm")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: local\n  model_name: any\n  api_base: {server.url}\n  api_key_name: none\n")
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}

    def prompt(*options):
        command = [sys.executable, "-m", "llm", "prompt", "-m", "local", "-o", "temperature", "0", "-o", "max_tokens",
                   "20", "--no-log", *options, WHO]
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True,
                              timeout=120).stdout

    streamed = prompt()
    assert streamed.strip() and streamed == prompt("--no-stream")


def test_vercel_ai_sdk(server):
    node = shutil.which("node")
    if not node or not (HERE.parent / "node/node_modules/ai").exists():
        pytest.skip("node or its ai package is not installed")
    done = subprocess.run([node, HERE.parent / "node/vercel.mjs", server.url], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lm_eval(server, tmp_path):
    """Its tasks over /v1/completions: options scored by echo and logprobs, and texts that end at a stop."""
    pytest.importorskip("lm_eval", reason="in tests/requirements-long.txt, for scripts/test --long")
    lines = [{"q": "One and one is", "options": ["two", "three"], "right": 0},
             {"q": "The sky is", "options": ["green", "blue"], "right": 1}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = (f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path}/data.jsonl\n"
              "test_split: test\ndoc_to_text: \"{{q}}\"\n")
    (tmp_path / "choose.yaml").write_text(
        "task: choose\noutput_type: multiple_choice\n" + common +
        "doc_to_choice: \"{{options}}\"\ndoc_to_target: right\nmetric_list:\n  - metric: acc\n")
    (tmp_path / "write.yaml").write_text(
        "task: write\noutput_type: generate_until\n" + common + "doc_to_target: \"{{options[right]}}\"\n"
        "generation_kwargs:\n  until: [\"\\n\"]\n  max_gen_toks: 8\nmetric_list:\n  - metric: exact_match\n")
    arguments = f"model=any,base_url={server.url}/completions,tokenizer_backend=remote,num_concurrent=1,max_length=1024"
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments, "--tasks",
         "choose,write", "--include_path", tmp_path, "--output_path", tmp_path / "out", "--log_samples"],
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"},
        capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    [scores] = (json.loads(path.read_text()) for path in (tmp_path / "out").rglob("results_*.json"))
    assert scores["results"]["choose"]["acc,none"] in (0, 0.5, 1)
    [samples] = (tmp_path / "out").rglob("samples_choose_*.jsonl")
    for line in samples.read_text().splitlines():
        scored = [float(pair[0][0]) for pair in json.loads(line)["resps"]]
        assert len(scored) == 2 and all(score < 0 for score in scored), line
    [samples] = (tmp_path / "out").rglob("samples_write_*.jsonl")
    texts = [json.loads(line)["resps"][0][0] for line in samples.read_text().splitlines()]
    assert len(texts) == 2 and not any("\n" in text for text in texts)
