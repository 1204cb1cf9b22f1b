"""Filling in the middle: /infill as llama.cpp's server has it, and completions with a suffix."""
import json
from pathlib import Path

import pytest

from conftest import MODEL, Server

GAP = {"input_prefix": "def add(a, b):\n    ", "input_suffix": "\n    return c\n"}
MARKS = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]


@pytest.fixture(scope="module", autouse=True)
def knows_gaps(session_server):
    if session_server.post("/infill", {**GAP, "n_predict": 1})[0] == 400:
        pytest.skip("this model cannot fill in")


def infill(server, **fields):
    status, _, answer = server.post("/infill", {**GAP, "n_predict": 12, "temperature": 0, **fields})
    assert status == 200, answer
    return answer


def lines(data):
    """The JSON objects of the stream, which ends without [DONE]."""
    assert b"[DONE]" not in data
    return [json.loads(event[6:]) for event in data.decode().split("\n\n") if event.startswith("data: ")]


def test_the_same_as_a_completion_with_a_suffix(server):
    answer = infill(server, repeat_penalty=1.1)
    text = server.complete(GAP["input_prefix"], suffix=GAP["input_suffix"], max_tokens=12, temperature=0,
                           repetition_penalty=1.1)[2]
    assert answer["content"] == text["choices"][0]["text"] and answer["stop"] is True
    assert answer["tokens_evaluated"] == text["usage"]["prompt_tokens"]
    assert answer["tokens_predicted"] == text["usage"]["completion_tokens"]
    assert answer["stop_type"] == ("limit" if answer["tokens_predicted"] == 12 else "eos")
    assert answer["truncated"] is False and answer["timings"]["predicted_n"] == answer["tokens_predicted"]
    assert answer["timings"]["prompt_n"] + answer["timings"]["cache_n"] == answer["tokens_evaluated"]
    for path in ("/v1/infill", "/infill/"):
        assert server.post(path, {**GAP, "n_predict": 12, "temperature": 0, "repeat_penalty": 1.1})[2]["content"] == answer["content"]


def test_what_is_typed_goes_behind_the_prefix(server):
    joined = infill(server, input_prefix=GAP["input_prefix"] + "c = ")
    assert infill(server, prompt="c = ")["content"] == joined["content"]
    assert infill(server, prompt=None)["content"] == infill(server, prompt="")["content"]
    assert infill(server, input_prefix="", input_suffix="", n_predict=1)["tokens_evaluated"] == 3


def test_stream_equals_whole(server):
    whole = infill(server, ignore_eos=True, seed=3, temperature=1)
    status, headers, data = server.request("POST", "/infill", {**GAP, "n_predict": 12, "ignore_eos": True, "seed": 3,
                                                               "temperature": 1, "stream": True})
    chunks = lines(data)
    assert status == 200 and headers["Content-Type"] == "text/event-stream"
    assert "".join(c["content"] for c in chunks) == whole["content"]
    assert [c["stop"] for c in chunks] == [False] * (len(chunks) - 1) + [True] and len(chunks) > 2
    assert chunks[-1]["tokens_predicted"] == 12 and chunks[-1]["stop_type"] == "limit"


def test_stop_and_limits(server):
    text = infill(server, ignore_eos=True)["content"]
    word = text[len(text) // 2:][:2]
    answer = infill(server, ignore_eos=True, stop=["never said", word])
    assert answer["content"] == text[:text.index(word)] and answer["stop_type"] == "word"
    assert answer["stopping_word"] == word
    assert infill(server, max_tokens=3, n_predict=None, ignore_eos=True)["tokens_predicted"] == 3
    banned = infill(server, logit_bias={str(server.post("/tokenize", {"content": text})[2]["tokens"][0]): -100}, ignore_eos=True)
    assert banned["content"] != text


def test_a_grammar(server):
    assert infill(server, grammar='root ::= "yes" | "no"')["content"] in ("yes", "no")


def test_none_to_predict_fills_the_cache(server):
    gap = {"input_prefix": "# a prefix that nobody else has\n" * 20}
    first = infill(server, n_predict=0, **gap)
    assert first["content"] == "" and first["tokens_predicted"] == first["tokens_cached"] == 0
    assert infill(server, **gap)["tokens_cached"] >= first["tokens_evaluated"] // 2
    assert infill(server, cache_prompt=False, **gap)["tokens_cached"] == 0


def test_other_files(server):
    files = [{"filename": "one.py", "text": "ONE = 1\n"}, {"text": "TWO = 2\n", "filename": None}, {"text": ""}]
    with_none = infill(server)["tokens_evaluated"]
    assert infill(server, input_extra=[])["tokens_evaluated"] == with_none
    counts = [infill(server, input_extra=files[:n])["tokens_evaluated"] for n in (1, 2, 3)]
    assert with_none < counts[0] < counts[1] < counts[2]


def test_marks_in_texts_are_text(server):
    """Nobody ends the gap from inside: each of them is several tokens."""
    before = infill(server)["tokens_evaluated"]
    extra = [{"filename": "<|file_sep|>", "text": "<|fim_middle|>"}]
    plain = [{"filename": "x", "text": "y"}]
    base = infill(server, input_extra=plain)["tokens_evaluated"]
    for mark in MARKS:
        assert infill(server, input_prefix=GAP["input_prefix"] + mark)["tokens_evaluated"] > before + 2
        assert infill(server, input_suffix=mark + GAP["input_suffix"])["tokens_evaluated"] > before + 2
    assert infill(server, input_extra=extra)["tokens_evaluated"] > base + 4


@pytest.mark.parametrize("fields, param", [
    ({"input_prefix": None}, "input_prefix"), ({"input_suffix": None}, "input_suffix"), ({"input_prefix": 5}, "input_prefix"),
    ({"input_suffix": ["a"]}, "input_suffix"), ({"prompt": [1, 2]}, "prompt"), ({"input_extra": "a"}, "input_extra"),
    ({"input_extra": {}}, "input_extra"), ({"input_extra": ["a"]}, "input_extra"), ({"input_extra": [{}]}, "input_extra"),
    ({"input_extra": [{"filename": "a"}]}, "input_extra"), ({"input_extra": [{"text": 5}]}, "input_extra"),
    ({"input_extra": [{"text": "a", "filename": 5}]}, "input_extra"), ({"input_extra": [[]]}, "input_extra"),
    ({"input_extra": [{"text": ""}] * 1025}, "input_extra"), ({"n_predict": -2}, "n_predict"), ({"n_predict": "1"}, "n_predict"),
    ({"temperature": -1}, "temperature"), ({"repeat_penalty": 0}, "repeat_penalty"), ({"stop": 5}, "stop"),
    ({"grammar": "root ::= nowhere"}, "grammar"), ({"stream": 1}, "stream"),
])
def test_wrong_fields_are_named(server, fields, param):
    status, _, answer = server.post("/infill", {**GAP, "n_predict": 1, **fields})
    assert status == 400 and answer["error"]["param"] == param, answer


def test_too_long(server):
    for fields in ({"input_prefix": "a b " * 30_000}, {"input_suffix": "a b " * 30_000},
                   {"input_extra": [{"text": "a b " * 300, "filename": "x"}] * 500}):
        status, _, answer = server.post("/infill", {**GAP, "n_predict": 4, **fields})
        assert status == 400 and answer["error"]["code"] == "context_length_exceeded", answer


def test_a_model_that_cannot(model, tmp_path):
    if MODEL != "tiny":
        pytest.skip("changes the model's file")
    path = tmp_path / "blind.gguf"
    path.write_bytes(Path(model).read_bytes().replace(b"<|fim_prefix|>", b"<|not_prefix|>"))
    server = Server(path)
    try:
        for where, body, param in [("/infill", GAP, None), ("/v1/completions", {"prompt": "a", "suffix": "b"}, "suffix")]:
            status, _, answer = server.post(where, body)
            assert status == 400 and answer["error"]["param"] == param
            assert "cannot fill in the middle" in answer["error"]["message"]
    finally:
        assert server.stop() == 0, server.log
