"""Several models behind one server: loaded on demand, within one budget, and never in each other's way."""
import json
import os
import subprocess
import threading
import time

import psutil
import pytest

from conftest import Server

NAMES = ["one", "two", "three"]
MIB = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three models that say different things; each takes about 45 MiB."""
    path = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(NAMES):
        subprocess.run([os.environ["TINY_MODEL"], str(path / f"{name}.gguf"), "--context", "8192", "--width", "256",
                        "--ff", "512", "--mixed", "--seed", str(seed + 1)], check=True)
    return path


@pytest.fixture
def serve(folder):
    servers = []

    def start(*options, model=folder):
        servers.append(Server(model, *options))
        return servers[-1]

    yield start
    for server in servers:
        assert server.stop() == 0, server.log


def states(server):
    listed = json.loads(server.get("/v1/models")[2])["data"]
    return {model["id"]: model["hearth"]["state"] for model in listed}


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def ask(server, model, seed=7, tokens=24, **fields):
    return server.complete("Once", model=model, seed=seed, temperature=1, max_tokens=tokens, ignore_eos=True, **fields)


def text(server, model, **fields):
    status, _, body = ask(server, model, **fields)
    assert status == 200, body
    assert body["model"] == model
    return body["choices"][0]["text"]


def resident(server):
    return psutil.Process(server.process.pid).memory_info().rss


def needs(server, model):
    return json.loads(server.get(f"/v1/models/{model}")[2])["hearth"]["bytes"]


def test_loads_what_is_asked_for(serve):
    server = serve()
    assert states(server) == dict.fromkeys(sorted(NAMES), "unloaded")
    said = {name: text(server, name) for name in NAMES[:2]}
    assert said["one"] != said["two"]
    assert states(server) == {"one": "loaded", "two": "loaded", "three": "unloaded"}
    one = json.loads(server.get("/v1/models/one")[2])
    assert one["hearth"]["loaded"] and one["hearth"]["bytes"] > 0 and one["meta"]["architecture"] == "qwen2"
    three = json.loads(server.get("/v1/models/three")[2])
    assert not three["hearth"]["loaded"] and three["hearth"]["bytes"] == 0
    assert server.get("/v1/models/four")[0] == 404
    metrics = server.get("/metrics")[2].decode()
    assert 'hearth_model_loads_total{model="one"} 1' in metrics
    assert 'hearth_model_bytes{model="three"} 0' in metrics


def test_names(serve):
    server = serve()
    status, _, body = ask(server, "four")
    assert status == 404 and body["error"]["code"] == "model_not_found" and body["error"]["param"] == "model"
    status, _, body = server.complete()
    assert status == 400 and body["error"]["param"] == "model"
    assert set(states(server).values()) == {"unloaded"}
    # What is wrong with the request is told without loading anything; what only the model knows, with it.
    assert ask(server, "one", n="x")[0] == 400 and states(server)["one"] == "unloaded"
    status, _, body = server.complete([1, 99999999], model="one")
    assert status == 400 and "99999999" in body["error"]["message"]
    assert ask(server, "one", logit_bias={"99999999": 1})[0] == 400


def test_one_model_takes_any_name(serve, folder):
    server = serve("--name", "mine", model=folder / "one.gguf")
    for name in ("mine", "gpt-4", None):
        status, _, body = server.complete("Once", model=name)
        assert status == 200 and body["model"] == "mine"
    assert states(server) == {"mine": "loaded"}


def test_several_arguments(serve, folder):
    server = serve("-m", str(folder / "three.gguf"), model=folder / "two.gguf")
    assert list(states(server)) == ["two", "three"]
    assert text(server, "three")
    again = Server(folder / "two.gguf", "-m", str(folder / "two.gguf"), wait=False)  # one name for two
    assert again.process.wait(20) == 1
    assert "would both be served as two" in again.read_log()


def test_props(serve):
    server = serve("--top-k", "33")
    status, _, data = server.get("/props?model=one")
    props = json.loads(data)
    assert status == 200 and props["model_alias"] == "one" and not props["hearth"]["loaded"]
    text(server, "one")
    props = json.loads(server.get("/props?model=one")[2])
    assert props["default_generation_settings"]["n_ctx"] == 8192
    assert props["default_generation_settings"]["params"]["top_k"] == 33
    assert "<|im_start|>" in props["chat_template"] and props["model_path"].endswith("one.gguf")
    assert server.get("/props")[0] == 400 and server.get("/props?model=four")[0] == 404


def fixed_bytes(serve, folder, model, ctx="2048"):
    """What a model takes when its KV cache is as small as can be."""
    server = serve("--ctx", ctx, "--parallel", "1", model=folder)
    text(server, model)
    taken = needs(server, model)
    server.stop()
    return taken


def test_three_models_share_a_budget_for_two(serve, folder):
    each = fixed_bytes(serve, folder, "one")
    budget = int(2.6 * each)
    server = serve("--ctx", "2048", "--parallel", "1", "--memory", str(budget))
    said, failed = {}, []

    def client(name):
        try:
            for _ in range(3):
                assert said.setdefault(name, text(server, name)) == text(server, name)
                assert sum(needs(server, model) for model in NAMES) <= budget
        except Exception as failure:  # noqa: BLE001
            failed.append(failure)

    threads = [threading.Thread(target=client, args=(name,)) for name in NAMES * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert len(set(said.values())) == 3
    assert "needs the memory" in server.read_log()


def test_least_recently_used_goes(serve, folder):
    each = fixed_bytes(serve, folder, "one")
    server = serve("--ctx", "2048", "--parallel", "1", "--memory", str(int(2.6 * each)))
    said = [text(server, name) for name in ("one", "two", "one", "three")]
    assert states(server) == {"one": "loaded", "two": "unloaded", "three": "loaded"}
    assert said[0] == said[2]
    assert text(server, "two") and states(server)["one"] == "unloaded"


def test_never_in_the_middle_of_a_request(serve, folder):
    """An answer in progress holds its model; the other one waits until it has ended."""
    each = fixed_bytes(serve, folder, "one")
    server = serve("--ctx", "2048", "--parallel", "1", "--memory", str(int(1.5 * each)))
    alone = text(server, "one", tokens=1500)
    said = {}
    stream = threading.Thread(target=lambda: said.update(one=text(server, "one", tokens=1500)))
    stream.start()
    assert wait_for(lambda: json.loads(server.get("/slots")[2])["running"] > 0)
    said["two"] = text(server, "two")
    stream.join()
    assert said["one"] == alone and said["two"]
    assert text(server, "one", tokens=1500) == alone
    assert "unloading" in server.read_log()


def test_too_large(serve, folder):
    each = fixed_bytes(serve, folder, "one")
    server = serve("--ctx", "2048", "--parallel", "1", "--memory", str(each // 2))
    status, headers, body = ask(server, "one")
    assert status == 503 and body["error"]["code"] == "insufficient_memory"
    assert "are missing" in body["error"]["message"]
    assert headers["X-Should-Retry"] == "false"
    alone = Server(folder / "one.gguf", "--memory", "1M", wait=False)
    assert alone.process.wait(20) == 1
    assert "are missing" in alone.read_log()


def test_idle_models_go_and_give_their_memory_back(serve):
    server = serve("--model-idle", "0.6")
    before = resident(server)
    for _ in range(2):
        said = [text(server, name, tokens=200) for name in NAMES]
        assert len(set(said)) == 3
        assert wait_for(lambda: set(states(server).values()) == {"unloaded"})
    assert resident(server) < before + 12 * MIB, (before, resident(server))
    assert text(server, "one", tokens=200) == said[0]


def test_a_held_model_is_not_idle(serve):
    server = serve("--model-idle", "0.3")
    with server.start_stream("/v1/completions", model="one", max_tokens=7000, ignore_eos=True) as stream:
        stream.recv(4096)
        time.sleep(1)
        assert states(server)["one"] == "loaded"
    assert wait_for(lambda: states(server)["one"] == "unloaded")


def test_a_corrupt_file(serve, folder, tmp_path):
    for name in NAMES[:2]:
        (tmp_path / f"{name}.gguf").write_bytes((folder / f"{name}.gguf").read_bytes())
    whole = (tmp_path / "two.gguf").read_bytes()
    (tmp_path / "two.gguf").write_bytes(whole[:5000])
    server = serve(model=tmp_path)
    said = text(server, "one")
    for _ in range(2):
        status, headers, body = ask(server, "two")
        assert status == 500 and body["error"]["code"] == "model_load_failed", body
        assert headers["X-Should-Retry"] == "false"
    assert states(server) == {"one": "loaded", "two": "failed"}
    assert json.loads(server.get("/v1/models/two")[2])["hearth"]["error"]
    assert server.read_log().count("cannot load two") == 1  # not read again while it is the same
    assert ask(server, "two", stream=True)[0] == 500
    assert text(server, "one") == said
    (tmp_path / "two.gguf").write_bytes(whole)
    assert text(server, "two")
    assert states(server)["two"] == "loaded"


def test_a_missing_file(serve, folder, tmp_path):
    for name in NAMES[:2]:
        (tmp_path / f"{name}.gguf").write_bytes((folder / f"{name}.gguf").read_bytes())
    server = serve(model=tmp_path)
    (tmp_path / "two.gguf").unlink()
    assert ask(server, "two")[0] == 500
    assert text(server, "one")


def test_a_deadline_holds_while_a_model_is_awaited(serve, folder):
    each = fixed_bytes(serve, folder, "one", "8192")
    server = serve("--ctx", "8192", "--parallel", "1", "--memory", str(int(1.5 * each)))
    with server.start_stream("/v1/completions", model="one", max_tokens=7000, ignore_eos=True) as stream:
        stream.recv(4096)
        began = time.monotonic()
        status, _, body = ask(server, "two", timeout=0.5)
        took = time.monotonic() - began
    assert (status, body["error"]["code"]) == (503, "deadline_unreachable")
    assert took < 5


def test_clients_that_leave_while_they_wait(serve, folder):
    each = fixed_bytes(serve, folder, "one")
    server = serve("--ctx", "2048", "--parallel", "1", "--memory", str(int(1.5 * each)))
    with server.start_stream("/v1/completions", model="one", max_tokens=1900, ignore_eos=True) as stream:
        stream.recv(4096)
        for _ in range(10):
            server.start_stream("/v1/completions", model="two").close()
    assert wait_for(lambda: "hearth_requests_waiting_for_model 0" in server.get("/metrics")[2].decode())
    assert text(server, "three")


def test_streams_go_on_while_others_come_and_go(serve):
    """The bytes of a stream are the same, whatever is loaded and unloaded beside it."""
    server = serve("--model-idle", "0.2")
    alone = text(server, "one", tokens=800)
    over = threading.Event()
    loads = []

    def others():
        while not over.is_set():
            for name in NAMES[1:]:
                loads.append(text(server, name, tokens=4))
            time.sleep(0.3)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        while len(loads) < 4:
            assert text(server, "one", tokens=800) == alone
    finally:
        over.set()
        thread.join()
    assert len(set(loads)) == 2
