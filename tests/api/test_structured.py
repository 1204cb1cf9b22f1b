"""Structured output: response_format, grammar, regex and choice, judged by an independent validator."""
import concurrent.futures
import decimal
import json
import os
import re
import subprocess

import jsonschema
import pytest

import schemas
from conftest import events

LONG = os.environ.get("HEARTH_TEST_LONG") == "1"
TEXTS = os.path.join(os.path.dirname(os.environ.get("TINY_MODEL", "")), "schema-texts")


@pytest.fixture
def server(one_server):
    return one_server


def validator(schema):
    """Numbers as decimals: multiples of 0.01 are no business of doubles."""
    schema = json.loads(json.dumps(schema), parse_float=decimal.Decimal)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def faults(schema, text):
    try:
        value = json.loads(text, parse_float=decimal.Decimal)
    except ValueError as e:
        return [str(e)]
    return [e.message for e in validator(schema).iter_errors(value)]


def json_format(schema, strict=False):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


def texts_of(orders):
    if not os.path.exists(TEXTS):
        pytest.skip("schema-texts is not built")
    done = subprocess.run([TEXTS], input="".join(json.dumps(order) + "\n" for order in orders), capture_output=True,
                          text=True, check=True, timeout=300)
    return [json.loads(line) for line in done.stdout.splitlines()]


# ---- schemas without a model ----

def test_random_texts_of_200_schemas_are_valid():
    known = schemas.all_schemas()
    strict = [i % 4 == 0 for i in range(len(known))]
    answers = texts_of({"schema": schema, "strict": s, "texts": 50 if LONG else 10, "seed": i}
                       for i, (schema, s) in enumerate(zip(known.values(), strict)))
    wrong = {}
    for (name, schema), answer in zip(known.items(), answers):
        assert "error" not in answer, (name, answer)
        for text in answer["texts"]:
            if faults(schema, text):
                wrong[name] = (text[:200], faults(schema, text)[0][:200])
    assert not wrong, wrong
    seconds = sorted(answer["seconds"] for answer in answers[:-1])
    print(f"\ncompiled: median {seconds[len(seconds) // 2] * 1e3:.2f} ms, p99 {seconds[-len(seconds) // 100 - 1] * 1e3:.2f} ms")


def test_hostile_schemas_are_bounded():
    worst = {}
    for name, schema in schemas.hostile():
        answer, last = texts_of([{"schema": schema, "strict": False, "texts": 0, "seed": 1}])
        worst[name] = (round(answer["seconds"] * 1e3, 1), last["peak"] >> 20)
    print("\nslowest, ms and MB:", sorted(worst.items(), key=lambda item: -item[1][0])[:5])
    # Sanitizers make it slower and larger; the figures without them are far below.
    assert max(seconds for seconds, _ in worst.values()) < 5000, worst
    assert max(memory for _, memory in worst.values()) < 1000, worst


# ---- with a model ----

def ask(server, schema, seed, **fields):
    fields = {"max_tokens": 600, "temperature": 1, "seed": seed, "response_format": json_format(schema), **fields}
    status, _, answer = server.chat("Give me an example.", **fields)
    assert status == 200, (schema, answer)
    return answer["choices"][0]


def check(server, name, schema, seed):
    choice = ask(server, schema, seed)
    if choice["finish_reason"] == "length":
        return name, False, None
    assert choice["finish_reason"] == "stop", choice
    text = choice["message"]["content"]
    return name, True, (text[:300], faults(schema, text)[:1]) if faults(schema, text) else None


def test_outputs_are_valid(server):
    known = list(schemas.all_schemas().items())
    chosen = known if LONG else known[::10]
    seeds = range(3 if LONG else 1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda job: check(server, *job), [(name, schema, seed) for name, schema in chosen for seed in seeds]))
    wrong = {name: fault for name, _, fault in done if fault}
    finished = sum(over for _, over, _ in done)
    print(f"\n{finished} of {len(done)} finished, {len(wrong)} invalid")
    assert not wrong, wrong
    assert finished > len(done) / 3


PERSON = schemas.obj({"name": schemas.SHORT, "age": {"type": "integer", "minimum": 0, "maximum": 120}})


def test_streamed_equals_whole(server):
    body = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 200, "seed": 4, "temperature": 1,
            "response_format": json_format(PERSON)}
    whole = server.post("/v1/chat/completions", body)[2]["choices"][0]
    data = server.request("POST", "/v1/chat/completions", {**body, "stream": True})[2]
    chunks = [choice for event in events(data) for choice in event["choices"]]
    assert "".join(c["delta"].get("content") or "" for c in chunks) == whole["message"]["content"]
    assert chunks[-1]["finish_reason"] == whole["finish_reason"] == "stop"
    assert not faults(PERSON, whole["message"]["content"])


def test_several_choices_and_logprobs(server):
    answer = server.chat("Who?", n=3, logprobs=True, top_logprobs=2, temperature=1, seed=1, max_tokens=200,
                         response_format=json_format(PERSON))[2]
    for choice in answer["choices"]:
        text = choice["message"]["content"]
        assert choice["finish_reason"] == "stop" and not faults(PERSON, text)
        assert bytes(byte for t in choice["logprobs"]["content"] for byte in t["bytes"]).decode() == text


def test_it_is_cut_by_length_and_by_stop(server):
    choice = ask(server, schemas.array(schemas.INTEGER, minItems=50), 1, max_tokens=5)
    assert choice["finish_reason"] == "length" and choice["message"]["content"].startswith("[")
    choice = ask(server, {"const": {"a": 1, "b": 2}}, 1, stop=['"b"'])
    assert choice["finish_reason"] == "stop" and choice["message"]["content"].replace(" ", "") == '{"a":1,'


def test_json_object(server):
    done = 0
    for seed in range(4):
        answer = server.chat("Hi", response_format={"type": "json_object"}, temperature=1, seed=seed, max_tokens=100)[2]
        choice = answer["choices"][0]
        assert choice["message"]["content"].startswith("{")
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(choice["message"]["content"]), dict)
            done += 1
    print(f"\n{done} of 4 finished")


@pytest.mark.parametrize("name", ["regex", "guided_regex"])
def test_regex(server, name):
    for answer in (server.chat(**{name: r"[A-F]{3}-\d{2}"}, max_tokens=40, temperature=1)[2]["choices"][0],
                   server.complete(**{name: r"[A-F]{3}-\d{2}"}, max_tokens=40, temperature=1)[2]["choices"][0]):
        text = answer["text"] if "text" in answer else answer["message"]["content"]
        assert re.fullmatch(r"[A-F]{3}-\d{2}", text) and answer["finish_reason"] == "stop"


@pytest.mark.parametrize("fields", [{"choice": ["yes", "no", "日本"]}, {"guided_choice": ["yes", "no", "日本"]},
                                    {"structured_outputs": {"choice": ["yes", "no", "日本"]}}])
def test_choice(server, fields):
    seen = set()
    for seed in range(4):
        answer = server.complete(**fields, temperature=2, seed=seed, max_tokens=20)[2]["choices"][0]
        assert answer["finish_reason"] == "stop"
        seen.add(answer["text"])
    assert seen <= {"yes", "no", "日本"}


def test_grammar(server):
    grammar = 'root ::= greeting " " name "!"\ngreeting ::= "Hello" | "Bye"\nname ::= [A-Z] [a-z]{2,5}'
    answer = server.complete(grammar=grammar, temperature=1, max_tokens=40)[2]["choices"][0]
    assert re.fullmatch(r"(Hello|Bye) [A-Z][a-z]{2,5}!", answer["text"]) and answer["finish_reason"] == "stop"


def test_guided_json_takes_a_schema_or_its_text(server):
    for schema in (PERSON, json.dumps(PERSON)):
        answer = server.complete(guided_json=schema, temperature=1, seed=3, max_tokens=200)[2]["choices"][0]
        assert answer["finish_reason"] == "stop" and not faults(PERSON, answer["text"])


def test_text_and_null_ask_for_nothing(server):
    assert server.chat(response_format={"type": "text"})[0] == 200
    assert server.chat(response_format=None, grammar=None, regex=None)[0] == 200


@pytest.mark.parametrize("fields, param, word", [
    ({"response_format": "json"}, "response_format", "object"),
    ({"response_format": {}}, "response_format.type", "string"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "object"),
    ({"response_format": json_format([])}, "response_format.json_schema.schema", "object"),
    ({"response_format": json_format({"type": "object", "properties": {"a": {"not": {}}}})}, "response_format", "#/properties/a/not"),
    ({"response_format": json_format({"type": "integer", "minimum": 2, "maximum": 1})}, "response_format", "nothing"),
    ({"response_format": json_format({"$ref": "#/$defs/none"})}, "response_format", "$ref"),
    ({"regex": "(a"}, "regex", ""), ({"regex": 5}, "regex", "string"), ({"regex": r"(a)\1"}, "regex", ""),
    ({"choice": []}, "choice", "array"), ({"choice": ["a", 1]}, "choice", "strings"), ({"choice": "a"}, "choice", "array"),
    ({"grammar": "root = x"}, "grammar", ""), ({"grammar": ""}, "grammar", "string"),
    ({"grammar": "root ::= missing"}, "grammar", "missing"),
    ({"choice": ["a"], "regex": "a"}, "choice", "together"),
    ({"response_format": {"type": "json_object"}, "choice": ["a"]}, "choice", "together"),
    ({"structured_outputs": {"shape": 1}}, "structured_outputs", "shape"),
])
def test_what_is_wrong_is_named(server, fields, param, word):
    status, _, answer = server.chat(**fields)
    assert status == 400, answer
    assert answer["error"]["param"] == param and word in answer["error"]["message"], answer
    assert answer["error"]["type"] == "invalid_request_error"


def test_hostile_requests_leave_the_server_at_ease(server):
    for name, schema in list(schemas.hostile())[::6]:
        status, _, answer = server.chat("Hi", response_format=json_format(schema), max_tokens=3)
        assert status in (200, 400), (name, answer)


def test_official_client_parses(server):
    import openai
    import pydantic

    class Step(pydantic.BaseModel):
        kind: str = pydantic.Field(max_length=10)
        size: int | None = pydantic.Field(ge=0, le=99)

    class Plan(pydantic.BaseModel):
        steps: list[Step] = pydantic.Field(max_length=3)
        done: bool

    client = openai.OpenAI(base_url=server.url, api_key="none")
    answer = client.chat.completions.parse(model="any", messages=[{"role": "user", "content": "Plan."}], max_tokens=300,
                                           response_format=Plan, temperature=1, seed=5)
    assert isinstance(answer.choices[0].message.parsed, Plan)
