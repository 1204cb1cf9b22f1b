"""LoRA adapters: scales for all requests and for one, at start and later; what is no adapter is refused."""
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from conftest import HEARTH, Server, watched

SIZES = ["--width", "64", "--context", "512"]


def tiny(path, *options):
    subprocess.run([os.environ["TINY_MODEL"], str(path), *SIZES, *options], check=True)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return [tiny(folder / "model.gguf"), tiny(folder / "one.gguf", "--lora", "4", "--alpha", "8", "--seed", "1"),
            tiny(folder / "two=3.gguf", "--lora", "8", "--alpha", "8", "--seed", "2", "--dtype", "F16")]


@pytest.fixture(scope="module")
def one_server(files):
    server = Server(files[0], "--device", "cpu", "--lora", files[1] + "=0", "--lora", files[2] + "=0", "--threads", "1")
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def server(one_server):
    yield from watched(one_server)
    assert post(one_server, [])[0] == 200


def post(server, body):
    status, _, answer = server.post("/lora-adapters", json.dumps(body))
    return status, answer


def text(server, *scales, **fields):
    options = dict(max_tokens=20, temperature=0, ignore_eos=True, logprobs=0, cache_prompt=False, **fields)
    if scales:
        options["lora"] = [{"id": i, "scale": scale} for i, scale in enumerate(scales)]
    status, _, answer = server.complete("The sky is", **options)
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["text"], choice["logprobs"]["token_logprobs"]


def test_the_list(server, files):
    status, _, data = server.request("GET", "/lora-adapters")
    assert status == 200
    assert data.decode() == '[{"id":0,"path":"%s","scale":0.0},{"id":1,"path":"%s","scale":0.0}]' % tuple(files[1:])


def test_scales_of_one_request(server):
    base = text(server)
    assert text(server, 0, 0) == base and text(server, 0.0) == base
    answers = [text(server, *scales) for scales in ((1,), (0.5,), (0, 1), (1, 1))]
    assert base not in answers and len({a for a, _ in answers}) == 4
    assert text(server, 1) == answers[0] and text(server) == base
    assert text(server, lora=[]) == base and text(server, lora=None) == base


def test_scales_for_all(server, files):
    base, one = text(server), text(server, 0.25, 1)
    assert post(server, [{"id": 1, "scale": 1}, {"id": 0, "scale": 0.25}]) == (200, {"success": True})
    assert text(server) == one and text(server, 0) == base
    assert post(server, [{"id": 1, "scale": 1}, {"id": 0, "scale": 0.1}])[0] == 200
    assert [entry["scale"] for entry in json.loads(server.request("GET", "/lora-adapters")[2])] == [0.1, 1]
    assert post(server, [{"id": 0, "scale": 1}])[0] == 200  # the other one is off
    assert text(server) == text(server, 1)
    assert post(server, [])[0] == 200 and text(server) == base


def test_side_by_side(server):
    """Prompts of one request and requests of one moment: each has what it has alone."""
    scales = [(), (1,), (0, 1), (0.5, 0.5), (), (1, -1)]
    alone = [text(server, *s) for s in scales]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda s: text(server, *s), scales)) == alone


def test_prefixes_are_apart(server):
    def cached(scale):
        answer = server.complete("x" * 200, max_tokens=1, lora=[{"id": 0, "scale": scale}])[2]
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert [cached(0.125), cached(0.25)] == [0, 0] and cached(0.125) > 0 and cached(0.25) > 0


def test_the_clients_field(server):
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    options = dict(model="any", messages=[{"role": "user", "content": "Hi"}], temperature=0, max_tokens=12)
    plain = client.chat.completions.create(**options).choices[0].message.content
    other = client.chat.completions.create(**options, extra_body={"lora": [{"id": 0, "scale": 1}]})
    assert other.choices[0].message.content != plain


WRONG = [{}, 3, "x", [3], [{}], [{"id": 0}], [{"id": "0", "scale": 1}], [{"id": 0, "scale": "1"}], [{"id": -1, "scale": 1}],
         [{"id": 2, "scale": 1}], [{"id": 0, "scale": 1e9}], [{"id": 0, "scale": 1}] * 2, [{"id": 0, "scale": 1}] * 100]


@pytest.mark.parametrize("scales", WRONG, ids=lambda scales: str(scales)[:40])
def test_wrong_scales(server, scales):
    status, _, answer = server.complete(lora=scales)
    assert status == 400 and answer["error"]["param"] == "lora", answer
    status, answer = post(server, scales)
    assert status == 400, answer


def test_wrong_bodies_and_methods(server):
    assert server.request("POST", "/lora-adapters", "{")[0] == 400
    assert server.request("POST", "/lora-adapters", " " * 70_000)[0] == 413
    assert server.request("DELETE", "/lora-adapters")[0] == 405
    assert server.request("HEAD", "/lora-adapters")[0] == 200


def test_without_adapters(model):
    server = Server(model)
    try:
        assert server.request("GET", "/lora-adapters")[2] == b"[]"
        status, _, answer = server.complete(lora=[{"id": 0, "scale": 1}])
        assert status == 400 and answer["error"]["param"] == "lora"
        assert server.complete(lora=[])[0] == 200
    finally:
        assert server.stop() == 0


def refused(*arguments):
    done = subprocess.run([HEARTH, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0, done.stderr
    return done.stderr


def test_what_is_refused_at_start(files, tmp_path):
    serve = ("serve", "--device", "cpu", "--port", "0", "-m")
    other = tiny(tmp_path / "llama.gguf", "--arch", "llama", "--lora", "4")
    wide = tmp_path / "wide.gguf"
    subprocess.run([os.environ["TINY_MODEL"], str(wide), "--width", "128", "--lora", "4"], check=True)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(open(files[1], "rb").read()[:3000])
    assert "general.architecture" in refused(*serve, files[0], "--lora", other)
    assert "shape" in refused(*serve, files[0], "--lora", str(wide))
    assert "cut.gguf" in refused(*serve, files[0], "--lora", str(cut))
    assert "general.type" in refused(*serve, files[0], "--lora", files[0])
    assert "adapter" in refused(*serve, files[1])
    assert "nowhere" in refused(*serve, files[0], "--lora", str(tmp_path / "nowhere.gguf"))
    assert "scale" in refused(*serve, files[0], "--lora", files[1] + "=much")
    assert "single model" in refused(*serve, f"{files[0]},{other}", "--lora", files[1])
    assert "lora" in refused("check", "--lora", files[1], "-m", files[0])
