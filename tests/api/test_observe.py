"""/metrics, /slots and what /health says."""
import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import BACKENDS, LONG, Server, events, read_all, read_until

HISTOGRAMS = {"hearth_time_to_first_token_seconds", "hearth_inter_token_latency_seconds", "hearth_queue_seconds",
              "hearth_step_seconds"}


def scrape(server):
    """{name: sum over its series, or {label value: number} where it has one label besides the model}."""
    status, headers, body = server.get("/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "model"}
            if len(labels) == 1:
                found.setdefault(sample.name, {})[next(iter(labels.values()))] = sample.value
            else:
                found[sample.name] = sample.value
    return found


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


def test_every_family_is_well_formed(server):
    server.complete(ignore_eos=True)
    text = server.get("/metrics")[2].decode()
    assert text.endswith("\n") and "\n\n" not in text
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)) and HISTOGRAMS <= set(names)
    model = json.loads(server.get("/v1/models")[2])["data"][0]["id"]
    for family in families:
        assert family.documentation and family.samples, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        for sample in family.samples:
            assert sample.labels.get("model", model) == model
        if family.name in HISTOGRAMS:
            buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
            assert buckets == sorted(buckets), "cumulative, and in order"
            count = next(s.value for s in family.samples if s.name.endswith("_count"))
            assert buckets[-1] == (float("inf"), count)
    assert {"process_resident_memory_bytes", "process_open_fds", "hearth_build_info", "hearth_model_info"} <= set(names)


def test_counters_move(server):
    server.complete(max_tokens=2)  # the length of a prompt is cached from here on
    before, began = scrape(server), time.monotonic()
    prompt = "Say it again: " + "la " * 60
    usages = [server.complete(prompt, max_tokens=20, ignore_eos=True)[2]["usage"] for _ in range(2)]
    assert server.request("POST", "/v1/completions", b"{")[0] == 400
    after = scrape(server)
    elapsed = time.monotonic() - began

    def moved(name, label=None):
        pick = (lambda page: page[name].get(label, 0)) if label else (lambda page: page[name])
        return pick(after) - pick(before)

    assert moved("hearth_requests_total") == 2
    assert moved("hearth_generated_tokens_total") == sum(u["completion_tokens"] for u in usages) == 40
    assert moved("hearth_prompt_tokens_total") == sum(u["prompt_tokens"] for u in usages)
    assert moved("hearth_prefix_cache_prompt_tokens_total") == moved("hearth_prompt_tokens_total")
    cached = sum(u["prompt_tokens_details"]["cached_tokens"] for u in usages)
    assert moved("hearth_prefix_cache_hit_tokens_total") == cached > 0
    assert moved("hearth_choices_ended_total", "length") == 2
    assert moved("hearth_http_answers_total", "400") == 1 and moved("hearth_http_answers_total", "200") >= 2
    assert moved("hearth_time_to_first_token_seconds_count") == 2
    assert moved("hearth_queue_seconds_count") == 2
    # A token may wait for the rest of its character, so there may be fewer events than tokens.
    assert 2 <= moved("hearth_inter_token_latency_seconds_count") <= 38
    assert moved("hearth_step_seconds_count") > 0
    told = moved("hearth_time_to_first_token_seconds_sum") + moved("hearth_inter_token_latency_seconds_sum")
    assert 0 < told < elapsed
    assert moved("hearth_requests_cancelled_total") == 0


def test_leaving_is_counted(server):
    before = scrape(server)["hearth_requests_cancelled_total"]
    with server.start_stream(**LONG) as s:
        read_until(s, b"data: ")
    until(lambda: scrape(server)["hearth_requests_cancelled_total"] == before + 1)
    until(lambda: scrape(server)["hearth_sequences_running"] == 0)
    assert scrape(server)["hearth_kv_blocks_used"] == 0


@pytest.fixture(params=BACKENDS)
def own(request, model):
    server = Server(model, "--poll-backend", request.param, "--parallel", "1")
    yield server
    if server.process.poll() is None:
        server.stop()


def slots(server):
    status, _, body = server.get("/slots")
    assert status == 200 and b"xyzzy" not in body
    return json.loads(body)


def test_slots_show_what_runs(own):
    assert slots(own) == {"state": "ready", "running": 0, "waiting": 0, "slots": []}
    with own.start_stream("/v1/completions", prompt="xyzzy", **LONG) as first:
        told = json.loads(read_until(first, b"\n\ndata: ").split(b"data: ")[1].split(b"\n")[0])
        with own.start_stream("/v1/completions", prompt="xyzzy " * 10, **LONG):
            view = until(lambda: len((v := slots(own))["slots"]) == 2 and v)
            running, waiting = view["slots"]
            assert view["running"] == 1 and view["waiting"] == 1
            assert running["id"] == told["id"] and running["state"] == "decode" and running["stream"]
            assert running["prompt_tokens"] > 0 and running["max_tokens"] == LONG["max_tokens"]
            assert running["computed_tokens"] >= running["prompt_tokens"]
            assert waiting["state"] == "waiting" and waiting["generated_tokens"] == 0
            assert waiting["computed_tokens"] == 0 and waiting["age_seconds"] <= running["age_seconds"]
            later = until(lambda: (s := slots(own)["slots"][0])["generated_tokens"] > running["generated_tokens"] and s)
            assert later["id"] == running["id"] and later["age_seconds"] >= running["age_seconds"]
    until(lambda: slots(own)["slots"] == [])


def test_a_key_guards_them(model):
    server = Server(model, "--api-key", "secret")
    try:
        for path in ("/metrics", "/slots", "/v1/slots"):
            assert server.get(path)[0] == 401
            assert server.get(path, headers={"Authorization": "Bearer secret"})[0] == 200
        assert server.get("/health")[0] == 200
    finally:
        assert server.stop() == 0


def health(server):
    status, _, body = server.get("/health")
    return status, json.loads(body)["status"]


def test_health_while_loading(tmp_path):
    path = tmp_path / "wide.gguf"
    subprocess.run([os.environ["TINY_MODEL"], str(path), "--width", "1024", "--ff", "4096"], check=True)
    server, seen = Server(path, wait=False), []
    try:
        while not seen or seen[-1] != (200, "ok"):
            with contextlib.suppress(ConnectionRefusedError):
                seen.append(health(server))
                if seen[-1] == (503, "loading"):
                    assert slots(server)["state"] in ("loading", "ready")
                    assert "hearth_build_info" in scrape(server)
                    status, headers, _ = server.post("/v1/completions", {"prompt": "x"})
                    assert status == 200 or int(headers["Retry-After"]) > 0
            assert server.process.poll() is None
        assert set(seen) <= {(503, "loading"), (200, "ok")}
    finally:
        assert server.stop() == 0
    assert seen[0] == (503, "loading"), "the first one came before the model was there"


def test_health_while_draining(own):
    with own.start_stream(**LONG) as s:
        read_until(s, b"data: ")
        own.process.send_signal(signal.SIGTERM)
        until(lambda: health(own) == (503, "draining"))
        status, headers, body = own.post("/v1/completions", {"prompt": "x"})
        assert status == 503 and int(headers["Retry-After"]) > 0 and body["error"]["code"] == "draining"
        assert slots(own)["state"] == "draining" and len(slots(own)["slots"]) == 1
        assert scrape(own)["hearth_state"]["draining"] == 1
    assert own.process.wait(20) == 0


def in_a_step(server):
    """False also where the thread was stopped between steps with a lock that the answer needs."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=3)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return float(re.search(r"^hearth_step_age_seconds(?:{.*})? (.*)$", text, re.M)[1]) > 0
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def stopped_worker(server):
    """Stops the engine's thread alone, in the middle of a step, as a debugger does."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    seize, interrupt, detach = 0x4206, 0x4207, 17
    folder = f"/proc/{server.process.pid}/task"
    if not os.path.isdir(folder):
        pytest.skip("no /proc here")
    thread = next(int(t) for t in os.listdir(folder) if open(f"{folder}/{t}/comm").read() == "worker\n")
    for _ in range(200):
        if libc.ptrace(seize, thread, None, None) != 0:
            pytest.skip("not allowed to trace: " + os.strerror(ctypes.get_errno()))
        libc.ptrace(interrupt, thread, None, None)
        os.waitpid(thread, 0x40000000)  # __WALL
        if in_a_step(server):
            break
        libc.ptrace(detach, thread, None, None)
        time.sleep(0.003)
    else:
        raise AssertionError("never in a step")
    try:
        yield
    finally:
        libc.ptrace(detach, thread, None, None)


@pytest.fixture
def guarded(model):
    """With patience for sanitizers on a busy machine."""
    server = Server(model, "--watchdog-seconds", "5")
    yield server
    if server.process.poll() is None:
        server.stop()


def test_a_step_that_does_not_return(guarded):
    with guarded.start_stream(**LONG) as s:
        read_until(s, b"data: ")
        with stopped_worker(guarded):
            assert health(guarded) == (200, "ok"), "not yet"
            until(lambda: health(guarded) == (503, "stalled"))
            assert scrape(guarded)["hearth_state"]["stalled"] == 1
            assert len(slots(guarded)["slots"]) == 1
            time.sleep(1)
            assert health(guarded) == (503, "stalled")
        until(lambda: health(guarded) == (200, "ok"))
        assert read_until(s, b"data: ")
    lines = [line for line in guarded.read_log().splitlines() if " stalled" in line]
    assert len(lines) == 2, lines
    assert " rows has not returned for 5." in lines[0] and "; it is in " in lines[0] and " of " in lines[0], lines
    assert "no longer stalled" in lines[1]


def test_a_stopped_process_has_not_stalled(guarded):
    """What nobody could see does not count: also when the machine sleeps."""
    with guarded.start_stream(**LONG) as s:
        read_until(s, b"data: ")
        with stopped_worker(guarded):
            guarded.process.send_signal(signal.SIGSTOP)
            time.sleep(8)
            guarded.process.send_signal(signal.SIGCONT)
            assert health(guarded) == (200, "ok")
    assert " stalled" not in guarded.read_log()


def test_scrapes_while_it_streams(own):
    with own.start_stream("/v1/completions", max_tokens=100, ignore_eos=True, temperature=0) as s:
        data = read_until(s, b"data: ")
        for _ in range(10):
            scrape(own)
            slots(own)
        data += read_all(s) if b"[DONE]" not in data else b""
    assert b"[DONE]" in data
