"""/openapi.json: whether it says everything, and whether the server keeps to it, whatever schemathesis thinks of."""
import collections
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest

from conftest import Server

ROOT = Path(__file__).parent.parent.parent
LONG = os.environ.get("HEARTH_TEST_LONG") == "1"
CASES = 5000 if LONG else 200
TO_DO = "server/api/openapi.json has nothing about "


@pytest.fixture(scope="module")
def short_model(tmp_path_factory):
    """Little room, so that answers without a bound end soon."""
    path = tmp_path_factory.mktemp("model") / "short.gguf"
    subprocess.run([os.environ["TINY_MODEL"], path, "--context", "192"], check=True)
    return path


@pytest.fixture(scope="module")
def server(short_model, tmp_path_factory):
    server = Server(short_model, "--store", str(tmp_path_factory.mktemp("store") / "responses.db"))
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture(scope="module")
def document(server):
    status, headers, data = server.get("/openapi.json")
    assert status == 200 and headers["Content-Type"] == "application/json"
    return json.loads(data)


def operations(document):
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield path, method, item[method]


def test_everything_is_described(document):
    """What a new row of params.def or a new route leaves to do."""
    for path, method, operation in operations(document):
        assert "summary" in operation, TO_DO + f"{method} {path}: put it among the paths"
        assert operation["responses"]["200"]["content"] or path.endswith("/cancel"), TO_DO + f"the answer of {path}"
    for name, schema in document["components"]["schemas"].items():
        for parameter, value in schema.get("properties", {}).items() if name.endswith("Request") else ():
            assert "anyOf" in value, TO_DO + f"the kind of '{parameter}' of {name}: put it among the kinds"


def test_every_route_is_described(document):
    """Those that take a body with its parameters."""
    routes = re.search(r"\} routes\[\] = \{\n(.*?)\n\};", (ROOT / "server/api/api.c").read_text(), re.S)[1]
    rows = re.findall(r'^    \{"([^"]+)", (\w+), (true|false)', routes, re.M)
    assert len(rows) > 15
    for path, route, post in rows:
        found = [p for p in document["paths"] if p.removeprefix("/v1").split("{")[0] == path]
        assert found, TO_DO + path
        for method in ("post",) if post == "true" else ():
            assert "requestBody" in document["paths"][found[0]][method], f"api.c: the row of {path} needs its .endpoint"


def test_references_lead_somewhere(document):
    for reference in set(re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(document))):
        part = document
        for key in reference.split("/"):
            assert key in part, reference
            part = part[key]


def test_schemas_are_schemas(document):
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_parameters_are_those_of_the_table(document):
    text = (ROOT / "server/api/params.def").read_text()
    names = {name for name in re.findall(r'^PARAM\("([^"]+)"', text, re.M)}
    described = set()
    for name, schema in document["components"]["schemas"].items():
        for parameter, value in schema["properties"].items() if name.endswith("Request") else ():
            described.add(parameter)
            for inner in value["anyOf"][0].get("properties", {}):
                described.add(f"{parameter}.{inner}")
    assert names <= described
    chat = document["components"]["schemas"]["ChatRequest"]
    assert chat["required"] == ["messages"]
    assert chat["properties"]["temperature"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 2}
    assert chat["properties"]["n"]["default"] == 1
    assert document["components"]["schemas"]["MessageRequest"]["required"] == ["max_tokens", "messages"]


def test_a_key_is_asked_for_where_there_is_one(document, short_model):
    assert "security" not in document
    server = Server(short_model, "--api-key", "secret")
    try:
        keyed = json.loads(server.get("/openapi.json")[2])
    finally:
        assert server.stop() == 0
    assert {"bearer": []} in keyed["security"] and "bearer" in keyed["components"]["securitySchemes"]
    free = {path for path, _, operation in operations(keyed) if operation.get("security") == []}
    assert free == {"/health", "/openapi.json"}


# ---- schemathesis ----

def check_events(document, operation, kind, text):
    """Every event of a stream is one of those that are described, or an error."""
    events = operation["responses"]["200"]["content"][kind]["x-itemSchema"]
    errors = operation["responses"]["5XX"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator({**document, "anyOf": [events, errors]})
    lines = kind == "application/x-ndjson"
    seen = [line if lines else line[6:] for line in text.split("\n") if line.strip() and (lines or line.startswith("data: "))]
    assert seen and text.endswith("\n" if lines else "\n\n"), text[-200:]
    for event in seen:
        if event != "[DONE]":
            validator.validate(json.loads(event))


def check(document, operation, case, answer):
    """No failure of ours: 503 says that there is no room, 504 that the client's own deadline was too short."""
    from schemathesis.specs.openapi import checks
    assert answer.status_code < 500 or answer.status_code == 503 or \
        (answer.status_code == 504 and "deadline" in answer.text), answer.text
    case.validate_response(answer, checks=[
        checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance])
    kind = answer.headers["content-type"][0].split(";")[0]
    if kind in ("text/event-stream", "application/x-ndjson"):
        check_events(document, operation, kind, answer.text)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_schemathesis(server, document, mode):
    """Cases that keep to the description, and such that do not."""
    schemathesis = pytest.importorskip("schemathesis")
    import hypothesis
    schema = schemathesis.openapi.from_dict(document)
    schema.config.base_url = f"http://127.0.0.1:{server.port}"
    found = [result.ok() for result in schema.get_all_operations()]
    bodies = [op for op in found if op.body]
    counts = collections.Counter()

    def attack(operation, cases):
        @hypothesis.seed(7)
        @hypothesis.settings(max_examples=cases, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                             suppress_health_check=list(hypothesis.HealthCheck), report_multiple_bugs=False)
        @hypothesis.given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        def run(case):
            answer = case.call(timeout=250)
            counts[operation.label, answer.status_code] += 1
            check(document, document["paths"][operation.path][operation.method], case, answer)
        run()

    for operation in found:
        if operation.body:
            attack(operation, CASES // 2 // len(bodies))
        elif mode == "positive":
            attack(operation, max(CASES // 200, 3))
    print("\n".join(f"{label} {status}: {n}" for (label, status), n in sorted(counts.items())))
    print("cases:", counts.total())
    assert {label for label, _ in counts} >= {operation.label for operation in bodies}
    if mode == "positive":
        assert sum(n for (_, status), n in counts.items() if status == 200) > counts.total() // 5
