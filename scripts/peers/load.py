"""Streaming load on hearth serve and llama-server for compare_peers --server: N clients at once, each with one
request after the other; prompts share no beginning, answers have a fixed number of tokens."""
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time

from peers import install

HOST = "127.0.0.1"
SLOTS = 8
WORDS = """time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head house service friend father power
hour game line end member law car city name team minute idea body back parent face level office door health person
art war history party result change morning reason research girl guy moment air teacher force order""".split()
PROMPT_WORDS = 190


def hearth_command(options):
    isa = ["--isa", options.isa] if options.isa else []
    return lambda path, port: [options.hearth, "serve", "-m", path, "--port", port, "--threads", options.threads,
                               "--parallel", SLOTS, *isa]


def llama_command(options):
    """Flash attention, and as much context as these requests need; no copies of finished prompts."""
    return lambda path, port: [options.peer_server, "-m", path, "--host", HOST, "--port", port, "-t", options.threads,
                               "-np", SLOTS, "-c", SLOTS * 512, "-fa", "on", "--cache-ram", 0]


class Server:
    def __init__(self, command, path):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen([str(part) for part in command(path, self.port)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait()

    def wait(self):
        for _ in range(1200):
            if self.process.poll() is not None:
                sys.exit(f"{' '.join(self.process.args)} ended with {self.process.returncode}")
            try:
                connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit(f"{self.process.args[0]} does not answer /health")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Answer:
    """One streamed answer: when it began, when its tokens came, and what the server counted."""

    def __init__(self, port, prompt, tokens):
        body = {"model": "any", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                "stream": True, "stream_options": {"include_usage": True}}
        connection = http.client.HTTPConnection(HOST, port, timeout=600)
        self.began, self.came, usage = time.perf_counter(), [], None
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read(500)!r}")
        for line in response:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                usage = event.get("usage") or usage
                if event.get("choices") and event["choices"][0].get("text"):
                    self.came.append(time.perf_counter())
        self.tokens, self.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
        connection.close()


def one_load(port, clients, requests, tokens, seed):
    """Every client sends so many requests; output tokens a second, median times to the first and between tokens, and
    the time between tokens that one in a hundred exceeds."""
    numbers = random.Random(seed)
    prompts = [[" ".join(numbers.choices(WORDS, k=PROMPT_WORDS)) for _ in range(requests)] for _ in range(clients)]
    answers, failures = [], []

    def client(mine):
        try:
            for prompt in mine:
                answers.append(Answer(port, prompt, tokens))
        except (OSError, RuntimeError, http.client.HTTPException, TypeError) as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=(mine,)) for mine in prompts]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failures:
        sys.exit(f"a request failed: {failures[0]}")
    gaps = sorted(b - a for answer in answers for a, b in zip(answer.came, answer.came[1:]))
    return {"tps": sum(answer.tokens for answer in answers) / took, "gap": statistics.median(gaps),
            "late": gaps[len(gaps) * 99 // 100],
            "ttft": statistics.median(answer.came[0] - answer.began for answer in answers),
            "prompt_tokens": statistics.mean(answer.prompt_tokens for answer in answers)}


def compare(commands, path, options):
    """{clients: {program: [figures of each round]}}; both servers run throughout, one at a time has work."""
    servers = {}
    found = {clients: {name: [] for name in commands} for clients in options.clients}
    try:
        for name, command in commands.items():
            servers[name] = Server(command, path)
            one_load(servers[name].port, 1, 1, 8, "warm-up")
        for turn in range(options.rounds):
            began = time.monotonic()
            for clients in options.clients:
                for name in list(commands) if turn % 2 == 0 else reversed(commands):
                    found[clients][name].append(one_load(servers[name].port, clients, options.requests,
                                                         options.generate, f"{turn} {clients}"))
            install.say(f"round {turn + 1} of {options.rounds}: {time.monotonic() - began:.0f} s")
    finally:
        for server in servers.values():
            server.stop()
    return found
