"""Prefixes that outlive the server, are there before anybody asks, and explain themselves."""
import os
import random
import stat
import subprocess
import time

import pytest

from conftest import HEARTH, LONG, Server

LONG_PROMPT = "".join(f"Line {i}: the quick brown fox number {i * 37 % 101} jumps. " for i in range(40))
FIELDS = {"temperature": 1, "seed": 7, "max_tokens": 12, "ignore_eos": True}


def cached(answer):
    assert answer[0] == 200, answer
    return answer[2]["usage"]["prompt_tokens_details"]["cached_tokens"]


def text(answer):
    return answer[2]["choices"][0]["text"]


def metric(server, name):
    lines = server.get("/metrics")[2].decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(("hearth_" + name + " ", "hearth_" + name + "{")))


def files(folder):
    return [f for f in os.listdir(folder) if f.endswith(".kv")]


def saved(folder, number, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(files(folder)) < number:
        time.sleep(0.01)
    return len(files(folder)) >= number


def cache(folder, verb):
    done = subprocess.run([HEARTH, "cache", verb, "--cache-dir", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "some" / "prefixes")


def test_prefixes_are_saved_although_it_is_never_idle(model, folder):
    server = Server(model, "--cache-dir", folder)
    with server.start_stream("/v1/completions", **LONG, n=6, stream=False):
        assert cached(server.complete(LONG_PROMPT, **FIELDS)) == 0
        assert saved(folder, 8, 5)
        assert metric(server, "sequences_running") > 0, "the others go on"
    assert server.stop() == 0


def test_a_prefix_survives_a_restart(model, folder):
    server = Server(model, "--cache-dir", folder)
    first = server.complete(LONG_PROMPT, **FIELDS)
    assert cached(first) == 0
    again = server.complete(LONG_PROMPT, **FIELDS)
    n = cached(again)
    assert n >= 256 and n % 32 == 0 and text(again) == text(first)
    assert server.stop() == 0
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert all(stat.S_IMODE(os.stat(os.path.join(folder, f)).st_mode) == 0o600 for f in files(folder))

    server = Server(model, "--cache-dir", folder)
    later = server.complete(LONG_PROMPT, **FIELDS)
    assert cached(later) == n and text(later) == text(first)
    assert server.stop() == 0
    assert "not usable" not in server.log


def test_the_command_lists_and_clears(model, folder):
    assert "0 prefixes" in cache(folder, "list")
    server = Server(model, "--cache-dir", folder, "--name", "my-model")
    server.complete(LONG_PROMPT, **FIELDS)
    assert server.stop() == 0
    lines = cache(folder, "list").splitlines()
    assert lines[1].startswith("my-model ") and int(lines[1].split()[1]) >= 256 and "1 prefixes" in lines[-1]
    assert f"removed {len(files(folder))} files" in cache(folder, "clear")
    assert files(folder) == []
    done = subprocess.run([HEARTH, "cache", "list"], capture_output=True, text=True)
    assert done.returncode == 1 and "--cache-dir" in done.stderr


def test_clearing_while_the_server_runs(model, folder):
    server = Server(model, "--cache-dir", folder)
    first = server.complete(LONG_PROMPT, **FIELDS)
    assert saved(folder, 8)
    cache(folder, "clear")
    again = server.complete(LONG_PROMPT, **FIELDS)
    assert cached(again) > 0 and text(again) == text(first)
    assert server.stop() == 0


def test_foreign_files_and_damage_are_no_obstacle(model, folder):
    server = Server(model, "--cache-dir", folder)
    first = server.complete(LONG_PROMPT, **FIELDS)
    assert server.stop() == 0
    for i, name in enumerate(sorted(files(folder))):
        path = os.path.join(folder, name)
        if i % 3 == 0:
            os.truncate(path, os.path.getsize(path) // 2)
        elif i % 3 == 1:
            with open(path, "r+b") as f:
                f.seek(-50, 2)
                f.write(b"garbage")
    with open(os.path.join(folder, "README"), "w") as f:
        f.write("mine")
    server = Server(model, "--cache-dir", folder)
    again = server.complete(LONG_PROMPT, **FIELDS)
    assert text(again) == text(first)
    assert server.stop() == 0
    assert server.log.count("not usable") == 1 and "none of its own" in server.log
    with open(os.path.join(folder, "README")) as f:
        assert f.read() == "mine"


def test_two_servers_share_a_folder(model, folder):
    a, b = Server(model, "--cache-dir", folder), Server(model, "--cache-dir", folder)
    first = a.complete(LONG_PROMPT, **FIELDS)
    n = cached(a.complete(LONG_PROMPT, **FIELDS))
    assert saved(folder, n // 32)
    other = b.complete(LONG_PROMPT, **FIELDS)
    assert cached(other) == n and text(other) == text(first)
    assert a.stop() == 0 and b.stop() == 0


@pytest.mark.parametrize("rounds", [50 if os.environ.get("HEARTH_TEST_LONG") == "1" else 10])
def test_kill_at_any_time(model, folder, rounds):
    """Whenever the server dies while it writes, the next one starts, trusts nothing wrong, says the same."""
    chance = random.Random(4)
    expected = None
    for i in range(rounds):
        server = Server(model, "--cache-dir", folder)
        answer = server.complete(LONG_PROMPT, **FIELDS)
        expected = expected or text(answer)
        assert text(answer) == expected, i
        server.complete(f"Round {i}. " + LONG_PROMPT, **{**FIELDS, "max_tokens": 1})
        time.sleep(chance.random() * 0.03)
        server.process.kill()
        server.process.wait()
        server.read_log()
        assert "not usable" not in server.log, server.log
    server = Server(model, "--cache-dir", folder)
    assert cached(server.complete(LONG_PROMPT, **FIELDS)) >= 256
    assert server.stop() == 0
    assert set(os.listdir(folder)) == set(files(folder))


def test_the_size_is_a_bound(model, folder):
    server = Server(model, "--cache-dir", folder, "--cache-size", "1M")
    for i in range(6):
        server.complete(f"Text {i}. " + LONG_PROMPT, **{**FIELDS, "max_tokens": 1})
    assert server.stop() == 0
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in files(folder))
    assert 0 < size <= 1 << 20


def test_a_folder_that_cannot_be_is_said_at_start(model):
    server = Server(model, "--cache-dir", "/dev/null/prefixes", wait=False)
    assert server.process.wait(30) != 0
    assert "prefix cache" in server.read_log()


SYSTEM = "You are the helper of a small library. " + "Never make up a book that the catalogue does not have. " * 6


def test_warm_prefixes(model, tmp_path):
    path, other = tmp_path / "library.txt", tmp_path / "short.txt"
    path.write_text(SYSTEM + "\n")
    other.write_text("Short.")
    server = Server(model, "--warm", f"{path},{other}")
    for _ in range(1000):  # it may go on after the server is ready
        if b"hearth_kv_blocks_cached 0\n" not in server.get("/metrics")[2]:
            break
        time.sleep(0.01)
    assert cached(server.chat(messages=[{"role": "system", "content": SYSTEM},
                                        {"role": "user", "content": "Where are the maps?"}], seed=1)) >= 32
    assert server.stop() == 0
    assert "warming a prefix of" in server.log and "not warmed" in server.log


def test_the_answer_explains_itself(model):
    server = Server(model)
    body = {"prompt": LONG_PROMPT, "max_tokens": 1, "seed": 1}
    plain = server.post("/v1/completions", body)[2]
    assert "hearth" not in plain
    changed = LONG_PROMPT.replace("Line 20: the quick", "Line 20: the slow")
    answer = server.post("/v1/completions", {**body, "prompt": changed}, headers={"X-Cache-Explain": "1"})[2]
    (told,) = answer["hearth"]["cache"]
    assert told["cached_tokens"] == answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert told["cached_tokens"] <= told["diverges_at"] < told["prompt_tokens"]
    # a model may join letters and spaces into tokens of its own
    whole_prompt, whole_cached = told["before"] + told["prompt"], told["before"] + told["cached"]
    assert "the slow"[:7] in whole_prompt and whole_prompt in changed
    assert whole_cached in LONG_PROMPT and whole_cached not in changed
    again = server.post("/v1/completions", {**body, "prompt": changed, "cache_explain": True})[2]
    (told,) = again["hearth"]["cache"]
    assert told["cached_tokens"] >= told["prompt_tokens"] - 33
    nothing = server.post("/v1/completions", {**body, "prompt": "Zebra", "cache_explain": True})[2]
    assert nothing["hearth"]["cache"][0]["cached_tokens"] == 0
    assert server.stop() == 0
