"""What can be asked about a prompt without an answer: /tokenize, /detokenize, /apply-template."""
import json

import pytest

TEXTS = ["Hello, world!", "", "a  b\n\n\tc", "Grüße 世界 🙂", "<|im_start|>user"]


def ask(server, path, body):
    status, _, answer = server.post(path, body)
    return status, answer


@pytest.mark.parametrize("text", TEXTS)
def test_there_and_back(server, text):
    status, answer = ask(server, "/tokenize", {"content": text})
    assert status == 200 and answer["count"] == len(answer["tokens"])
    assert ask(server, "/detokenize", {"tokens": answer["tokens"]}) == (200, {"content": text, "prompt": text})


def test_special_tokens_are_read_or_not(server):
    read = ask(server, "/tokenize", {"content": "<|im_start|>"})[1]["tokens"]
    plain = ask(server, "/tokenize", {"content": "<|im_start|>", "parse_special": False})[1]["tokens"]
    assert len(read) == 1 and len(plain) > 1


def test_as_vllm_has_it(server):
    """What lm-eval's remote tokenizer asks for."""
    tokens = ask(server, "/tokenize", {"prompt": "one two", "add_special_tokens": False})[1]["tokens"]
    assert tokens == ask(server, "/tokenize", {"content": "one two"})[1]["tokens"]
    status, answer = ask(server, "/tokenize", {"prompt": "a", "content": "a"})
    assert status == 400 and answer["error"]["param"] == "prompt"
    status, _, info = server.get("/tokenizer_info")
    info = json.loads(info)
    assert status == 200 and info["eos_token"] == "<|im_end|>" and "messages" in info["chat_template"]
    assert len(ask(server, "/tokenize", {"prompt": info["eos_token"]})[1]["tokens"]) == 1


def test_pieces(server):
    text = "one 世 🙂"
    tokens = ask(server, "/tokenize", {"content": text, "with_pieces": True})[1]["tokens"]
    raw = b"".join(bytes(t["piece"]) if isinstance(t["piece"], list) else t["piece"].encode() for t in tokens)
    assert raw == text.encode()
    assert [t["id"] for t in tokens] == ask(server, "/tokenize", {"content": text})[1]["tokens"]


def test_template(server):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi <b>"}]
    status, answer = ask(server, "/apply-template", {"messages": messages})
    assert status == 200 and "Be kind." in answer["prompt"] and "Hi <b>" in answer["prompt"]
    tokens = ask(server, "/tokenize", {"content": answer["prompt"]})[1]["count"]
    whole = ask(server, "/v1/chat/completions", {"messages": messages, "max_tokens": 1})[1]
    assert whole["usage"]["prompt_tokens"] == tokens


@pytest.mark.parametrize("path, body, param", [
    ("/tokenize", {}, "content"), ("/tokenize", {"content": 5}, "content"),
    ("/tokenize", {"content": "a", "with_pieces": 1}, "with_pieces"),
    ("/detokenize", {}, "tokens"), ("/detokenize", {"tokens": "a"}, "tokens"),
    ("/detokenize", {"tokens": [1, "a"]}, "tokens"), ("/detokenize", {"tokens": [10 ** 9]}, "tokens"),
    ("/detokenize", {"tokens": [-1]}, "tokens"), ("/apply-template", {}, "messages"),
])
def test_errors_name_the_parameter(server, path, body, param):
    status, answer = ask(server, path, body)
    assert status == 400 and answer["error"]["param"] == param
