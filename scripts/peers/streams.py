"""Many streaming requests from one process, for scripts/load: asyncio connections that note when every token came, and
a server of their own whose memory and descriptors can be looked at."""
import asyncio
import json
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request

from peers.load import HOST, WORDS


def prompt(words, seed):
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


class Server:
    """hearth serve with these options; ends with the block."""

    def __init__(self, options, *more):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        command = [options.hearth, "serve", "-m", options.model, "--host", HOST, "--port", self.port, "--log-level",
                   "warning", *(["--threads", options.threads] if options.threads else []), *more, *options.server]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL)

    def __enter__(self):
        for _ in range(3000):
            if self.process.poll() is not None:
                raise SystemExit(f"load: the server ended with status {self.process.returncode}")
            try:
                self.get("/health")
                return self
            except OSError:
                time.sleep(0.1)
        raise SystemExit("load: the server does not answer /health")

    def __exit__(self, *failure):
        self.process.terminate()
        try:
            status = self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise SystemExit("load: the server did not end") from None
        if status != 0 and not any(failure):
            raise SystemExit(f"load: the server ended with status {status}")

    def get(self, path):
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=30) as answer:
            return answer.read().decode()

    def metric(self, name):
        """Of all models together."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith((f"hearth_{name} ", f"hearth_{name}{{"))]
        if not lines:
            raise KeyError(name)
        return sum(float(line.split()[-1]) for line in lines)

    def resident(self):
        """MB."""
        found = subprocess.run(["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True)
        return int(found.stdout) / 1024

    def descriptors(self):
        """-1 where the system does not tell."""
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except OSError:
            return -1

    def settle(self, seconds=30):
        """Waits until nothing runs or waits; False: something is left over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.metric("sequences_running") + self.metric("requests_waiting") == 0:
                return True
            time.sleep(0.1)
        return False


def request_bytes(**fields):
    body = json.dumps({"stream": True, **fields}).encode()
    return (f"POST /v1/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class Stream:
    """A request under way: its status, the times of its tokens, its texts by choice."""

    def __init__(self, port, **fields):
        self.port, self.fields = port, fields
        self.came, self.texts, self.usage, self.finish, self.status, self.ended = [], {}, None, {}, 0, False

    async def open(self):
        self.began = time.perf_counter()
        self.reader, self.writer = await asyncio.open_connection(HOST, self.port)
        self.writer.write(request_bytes(**self.fields))
        await self.writer.drain()
        self.status = int((await self.reader.readline()).split()[1])
        while (await self.reader.readline()).strip():
            pass
        return self

    async def body(self):
        """Pieces of an answer; none of a refusal."""
        while self.status == 200 and (size := int((await self.reader.readline()).split(b";")[0], 16)):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)

    def take(self, event):
        if not event.startswith(b"data: "):
            return
        if event == b"data: [DONE]":
            self.ended = True
            return
        found = json.loads(event[6:])
        self.usage = found.get("usage") or self.usage
        for choice in found.get("choices", []):
            index = choice["index"]
            self.texts[index] = self.texts.get(index, "") + choice["text"]
            self.finish[index] = choice.get("finish_reason") or self.finish.get(index)
            if choice["text"]:
                self.came.append(time.perf_counter())

    async def read(self, pause=0):
        """To the end; `pause` seconds after every piece make a slow reader."""
        rest = b""
        async for piece in self.body():
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                self.take(event)
            if pause:
                await asyncio.sleep(pause)
        self.close()
        return self

    async def run(self):
        await self.open()
        return await self.read()

    def close(self):
        self.writer.close()

    def abort(self):
        self.writer.transport.abort()

    def first(self):
        return self.came[0] - self.began

    def gaps(self, since=0, until=float("inf")):
        """Seconds between two pieces of text; those that end in this stretch of time."""
        return [b - a for a, b in zip(self.came, self.came[1:]) if since <= b < until]
