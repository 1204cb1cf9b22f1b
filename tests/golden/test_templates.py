"""Chat templates rendered here and by jinja2, in the environment that transformers makes for them:
the files in templates/, the lines of templates/lines.txt, and generated expressions. Same text, or an
error in both. Needs HEARTH (the binary)."""
import datetime
import json
import os
import random
import re
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest
from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

HEARTH = os.environ["HEARTH"]
FOLDER = Path(__file__).parent / "templates"


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return env


ENV = environment()
warnings.simplefilter("ignore", SyntaxWarning)  # of the Python that jinja2 makes of templates


def expected(source, row):
    """The reference's text, or the exception."""
    try:
        variables = {**row.get("chat_template_kwargs", {}), "messages": row["messages"], "documents": None,
                     "tools": row.get("tools"), "add_generation_prompt": row.get("add_generation_prompt", True),
                     "bos_token": "", "eos_token": ""}
        return ENV.from_string(source).render(**variables)
    except Exception as e:  # whatever a template can provoke
        return e


def rendered(source, rows):
    """hearth's answers: strings, or {"error": …}."""
    with tempfile.NamedTemporaryFile("w", suffix=".jinja", newline="") as file:
        file.write(source)
        file.flush()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        done = subprocess.run([HEARTH, "render", "--template", file.name], input=lines, capture_output=True,
                              text=True)
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert len(answers) == len(rows), f"{source!r}: {done.stdout} {done.stderr}"
    return answers


def compare(source, rows):
    """The differences, as lines for a person."""
    problems = []
    for row, got in zip(rows, rendered(source, rows)):
        want = expected(source, row)
        if isinstance(got, dict) and "text of a '" in got["error"]:
            continue  # refused here; there it has an address in it
        if isinstance(want, Exception) != isinstance(got, dict) or (isinstance(want, str) and want != got):
            name = source if len(source) < 400 else source[:60]
            problems.append(f"{name!r}\n  jinja2 {want!r}\n  hearth {got!r}")
    return problems


# ---- whole templates ----

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Wetter für eine Stadt\nund \"mehr\" <b>&</b>", "parameters": {
        "type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "e.g. Zürich"},
            "days": {"type": ["integer", "null"]}, "tags": {"type": "array", "items": {"type": "string"}},
            "extra": {"type": "object", "additionalProperties": {"type": "number"}}}}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {
    "type": "object", "properties": {"a": {"type": "number", "default": 1.0}, "b": {"type": "number"}}}}}


def call(name, arguments, ident="abcdefghi"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def conversations():
    hi = said("user", "  Hi 🙂 <|im_end|> \n")
    system = said("system", "Be brief.\n")
    thought = said("assistant", "<think>\nhm\n</think>\n\nHello!")
    arguments = {"city": "Zürich", "days": 1e16, "x": None}
    called = said("assistant", "", tool_calls=[call("get_weather", arguments)])
    twice = said("assistant", "Both:", tool_calls=[call("add", {"a": 1.5, "b": [True, {}]}), call("add", {})])
    result = said("tool", '{"t": 21.0}', tool_call_id="abcdefghi")
    talks = [
        [hi], [system, hi], [hi, thought], [hi, thought, said("user", "more")], [system, hi, called, result],
        [hi, called, result, said("assistant", "21°"), said("user", "thanks")],
        [system, hi, twice, result, result],
        [hi, said("assistant", "x", reasoning_content="because"), hi,
         said("assistant", "y", reasoning_content="so")],
        [said("assistant", "first")], [hi, hi], [system], [hi, system, hi, system]]
    for messages in talks:
        for tools in (None, [WEATHER], [WEATHER, ADD]):
            for kwargs in ({}, {"enable_thinking": False, "date_string": "1 May 2025"},
                           {"enable_thinking": True, "tools_in_user_message": False,
                            "builtin_tools": ["code_interpreter", "get_weather"]}):
                row = {"messages": messages, "add_generation_prompt": len(kwargs) != 2,
                       "chat_template_kwargs": kwargs}
                if tools:
                    row["tools"] = tools
                yield row


# ---- small ones, here and in lines.txt ----

VARIABLES = {
    "i": 7, "n": -3, "zero": 0, "x": 2.5, "y": -0.125, "big": 1e16, "s": "Hello World", "u": "Grüße 日本🙂",
    "ws": " \t a b  c\n\n d \n", "e": "", "q": "it's \"q\" \\ \n\t\x7f\u2028é\u0001",
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "mixed": [1, "a", None, True, 2.0, [1], {"k": 1}],
    "d": {"b": 1, "a": [1, 2], "C": "x", "items": 5}, "t": True, "f": False, "none_": None,
    "people": [{"name": "Bo", "age": 3, "in": {"a": [1, 2]}}, {"name": "al", "age": 1},
               {"name": "Cy", "age": 3}],
    "empty": [], "nothing": {}}

# These span lines: newlines and white space are their point.
SPANNING = [
    "a\n{% if t %}\nb\n{% endif %}\nc\n", "a\r\nb\rc\n\n", "  {% set a = 1 %}  \n  {{ a }}  \n",
    "{#- x #}\n\na\n{# y -#}\n\nb", "a\n  {%- if t %}\n  b\n  {%- endif +%}\n  c",
    "{% raw %}\n a {% endraw %}\nb", "{% raw -%}\n a {%- endraw %}\nb\n  {# c #}\n d",
    "\n\n{% if t %}x{% endif %}\n\n", "\ta\n\t{% if t %}\tb\n\t{% endif %}\tc",
    "x {%- for a in l %}\n {{ a }}\n{%- endfor %}\n y", "{{ s }}\n{{ s -}}\n{{- s }}\n",
    "{% if t %}\r\nx\r\n{% endif %}\r\n", "\u00a0{%- if t %}\u2003{{- s }}{% endif %}",
    "{% if t -%}\n\n x {%+ endif %}\n"]


# ---- generated ones ----

class Generator:
    """Random expressions of a type: number, text, list, mapping, truth. One in twelve operands is
    of any type, so that errors are met too; not under slices: jinja2 folds those of constants, and
    then forgives."""
    ATOMS = {
        "number": ["i", "n", "zero", "x", "y", "1", "2.5", "-1", "big", "l[0]", "people[0].age"],
        "text": ["s", "u", "ws", "e", "q", "'a'", "'b c'", "''", "'a,b,a'", "'ÄöZ'", "ls[0]",
            "people[0].name"],
        "list": ["l", "ls", "mixed", "people", "empty", "[1, 2]", "('x', 'y')", "d.a", "[s, u]",
            "range(3)|list"],
        "mapping": ["d", "nothing", "{'a': 1}", "people[0]", "{'a': s, 2: none}"],
        "truth": ["t", "f", "none_", "missing", "true", "d.nope", "1 > 0"],
    }
    # $n, $t, $l, $m, $b: an expression of that type
    FORMS = {
        "number": ["($n + $n)", "($n - $n)", "($n * $n)", "($n / $n)", "($n // $n)", "($n % $n)",
            "$t|length", "$l|length", "$t.find($t)", "$t.count($t)", "$t|int", "$t|float", "$n|abs",
            "$n|round", "$n|int", "$n|round(1)", "(-$n)", "$b|int", "$n|string|int", "[1, 2, $n]|sum",
            "[$n, $n]|max", "$l.count($n)", "(3 ** 2)"],
        "text": ["($t + $t)", "($t ~ $n)", "($t ~ $l)", "$t|upper", "$t|lower", "$t|trim", "$t|title",
            "$t|capitalize", "$t.strip()", "$t.rstrip('d')", "$t.lstrip($t)", "($t ~ s)[1:]",
            "(s ~ $t)[::-1]", "$t[0]", "$t[-1]", "(u ~ $t)[:-1]", "(u ~ $t)[1:5:2]", "$t.replace($t, $t)",
            "$t|replace('l', 'L')", "$l|join($t)", "$l|tojson", "$m|tojson", "$t|tojson", "$n|string",
            "$l|string", "$m|string", "$t|indent(2)", "'%s-%s' % ($t, $n)", "$t.title()", "$t|first",
            "$t|default('z')", "$m|tojson(indent=2)", "($t if $b else $t)", "($t * 2)",
            "$t.split()|join('-')", "$t.capitalize()", "$t.center(9)", "'{}:{}'.format($t, $l)",
            "$t|reverse", "$t.removeprefix('a')", "$l|tojson(ensure_ascii=true)", "$t|last"],
        "list": ["($l + [$n])", "($l + l)[1:]", "(l + $l)[::-1]", "(ls + $l)[:-1]", "$t.split()",
            "$t.split('a')", "$t.rsplit(' ', 1)", "$t.splitlines()", "$l|list", "$l|reverse|list",
            "$l|map('string')|list", "$l|select('string')|list", "$l|reject('none')|list",
            "$l|select('defined')|list", "[$t, $n]", "[$l, $m]", "$m.items()|list", "$m|items|list",
            "$m.keys()|list", "$m.values()|list", "$t|list", "[$t, $t]|sort",
            "[$n, $n]|sort(reverse=true)", "$m|dictsort", "[$t, $t]|unique|list",
            "[$m, $m]|map(attribute='a')|list", "[$m, $m]|selectattr('a')|list", "($l if $b else $l)",
            "people|rejectattr('age', 'gt', $n)|list", "$l|map('length')|list", "($l * 2)",
            "[$n, $n]|select('gt', $n)|list",
            "people|sort(attribute='age,name')|map(attribute='name')|list"],
        "mapping": ["{'k': $n, 'v': $t}", "{$t: $l}", "dict($m)", "dict(a=$n, b=$m)",
            "($m if $b else $m)", "people[$n|int]"],
        "truth": ["($n == $n)", "($n < $n)", "($t < $t)", "($t in $t)", "($t not in $l)", "($t in $m)",
            "($b and $b)", "($b or $b)", "(not $b)", "$t.startswith($t)", "$t.endswith('d')",
            "($l == $l)", "($t is string)", "($n is number)", "($m is mapping)", "($n is odd)",
            "($l is sequence)", "($b is defined)", "($b is none)", "($t is eq($t))", "$m.get('a')",
            "$t.isdigit()", "($n > $n > $n)", "($n is in($l))", "$l", "$t", "$m", "($b is sameas(true))",
            "($n is float)", "$m.a", "$m['b']", "$l|first", "$l|last"],
    }
    TYPES = {"n": "number", "t": "text", "l": "list", "m": "mapping", "b": "truth"}

    def __init__(self, seed):
        self.random = random.Random(seed)

    def expression(self, depth, kind):
        if self.random.random() < 1 / 12:
            kind = self.random.choice(list(self.ATOMS))
        if depth <= 0 or self.random.random() < 0.15:
            return self.random.choice(self.ATOMS[kind])
        text = re.sub(r"\$([ntlmb])", lambda m: "(" + self.expression(depth - 1, self.TYPES[m[1]]) + ")",
                      self.random.choice(self.FORMS[kind]))
        return f"({text})" if "|" in text else text

    def template(self):
        """An expression in the places where one can stand."""
        kind = self.random.choice(list(self.ATOMS))
        value = self.expression(self.random.randint(1, 4), kind)
        form = self.random.choice([
            "{{ V }}", "{{ V }}", "{% set v = V %}{{ v }}|{{ v|tojson }}", "{% if V %}y{% else %}n{% endif %}",
            " {%- set v -%} {{ V }} {%- endset %}{{ v|length }}",
            "{% for v in L if v != V %}{{ v }}{{ loop.index }},{% else %}-{% endfor %}",
            "{% macro m(a, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m(V) }}"])
        return form.replace("L", self.expression(2, "list")).replace("V", value)


class Programs(Generator):
    """Whole templates: statements in each other, with a scope each, white space and its control. A name that
    is not set on this way is part of the point."""
    STATEMENTS = [
        "{{ $v }}", "{{ $v }}", "{% set $x = $v %}", "{% set ns.$x = $v %}", "{% set $x, $x = [$v, $v] %}",
        "{% set $x %}$S{% endset %}", "{% if $b %}$S{% endif %}", "{% if $b %}$S{% else %}$S{% endif %}",
        "{% if $b %}$S{% elif $b %}$S{% else %}$S{% endif %}", "{% for $x in $l %}$S{% endfor %}",
        "{% for $x in $l %}$S{{ loop.index0 }}{{ loop.last }}{{ loop.length }}{% endfor %}",
        "{% for $x in $l if $b %}$S{% else %}$S{% endfor %}", "{% for k, v in $m|dictsort %}{{ k }}$S{% endfor %}",
        "{% for k, v in d.items() %}$S{{ v if loop.first else k }}{% endfor %}",
        "{% for $x in $l %}{% if $b %}{% break %}{% endif %}$S{% endfor %}",
        "{% for $x in $l %}{% if $b %}{% continue %}{% endif %}$S{% endfor %}",
        "{% for $x in range($n) %}{{ loop.cycle('odd', $t) }}$S{% endfor %}",
        "{% for $x in $l %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.changed($x) }}{% endfor %}",
        "{% macro $f(a, b=$v) %}$S{{ a }}{{ b }}{% endmacro %}", "{{ $f($v) }}", "{{ $f($v, b=$v) }}",
        "{% call(a) with_caller($v) %}$S{{ a }}{% endcall %}", "{% call h($v) %}$S{% endcall %}", "{{ h($v) }}",
        "{{ rest($v, 1, $v, x=$v, y=2) }}", "{% filter upper %}$S{% endfilter %}", "{% filter replace($t, $t) %}$S{% endfilter %}",
        "{% with $x = $v %}$S{% endwith %}", "{% generation %}$S{% endgeneration %}", "{# $x #}",
        "{% raw %}{{ $x }}{% endraw %}", "{% for message in messages %}{{ message['role'] }}$S{{ message.content }}{% endfor %}",
        "{% if messages[0].role == 'system' %}$S{% endif %}", "{{ raise_exception('no') if not t }}",
        "{{ '<|im_start|>' + $t + '\n' }}", "{%- if $x is defined and $x %}$S{% endif %}"]
    NAMES = ["a", "b", "k", "v", "content", "loop_"]
    BEFORE = ("{% set ns = namespace(a=1, b='x', s=s) %}{% macro f(a, b=1) %}f{{ a }}{{ b }}{% endmacro %}"
              "{% macro g(a, b=2) %}[{{ a }}|{{ f(b) }}]{% endmacro %}"
              "{% macro h(a) %}({{ a }}{{ caller() if caller }}){% endmacro %}"
              "{% macro with_caller(x) %}<{{ caller(x) }}>{% endmacro %}"
              "{% macro rest(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}")

    def part(self, letter, depth):
        if letter == "S":
            return self.statements(depth - 1)
        if letter in "xf":
            return self.random.choice(self.NAMES if letter == "x" else ["f", "g"])
        if letter == "v" and self.random.random() < 1 / 3:
            return self.random.choice([*self.NAMES, "ns.a", "ns.b", "loop.index"])
        kind = self.random.choice(list(self.ATOMS)) if letter == "v" else self.TYPES[letter]
        return self.expression(self.random.randint(0, 1), kind)

    def statement(self, depth):
        text = self.random.choice(self.STATEMENTS[:4] if depth <= 0 else self.STATEMENTS)
        text = re.sub(r"\$([vxfSntlmb])", lambda m: self.part(m[1], depth), text)
        if self.random.random() < 0.3:
            text = re.sub(r"^({[{%])(?![-+])", r"\1-", text)
        if self.random.random() < 0.3:
            text = re.sub(r"(?<![-+])([%}]})$", r"-\1", text)
        return text

    def statements(self, depth):
        between = ["", "", " ", "\n", "\n  ", "x", " y \n\n", "\t"]
        return "".join(self.random.choice(between) + self.statement(depth)
                       for _ in range(self.random.randint(1, 4))) + self.random.choice(between)

    def template(self):
        return self.BEFORE + self.statements(2)


def beyond(want):
    """Results that hearth refuses by design, or that nobody can compare."""
    if isinstance(want, Exception):
        return False
    words = ("object at 0x", "<built-in", "<bound method", "<function", "dict_items", "dict_keys")
    return any(word in want for word in words) or any(int(n) >= 2**63 for n in re.findall(r"\d{19,}", want))


ROW = {"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": VARIABLES}


def differences(sources):
    problems = []
    for source in sources:
        if not beyond(expected(source, ROW)):
            problems += compare(source, [ROW])
    return problems


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.jinja")))
def test_whole(name):
    problems = compare((FOLDER / name).read_text(), list(conversations()))
    assert not problems, "\n".join(problems)


def test_small():
    problems = differences((FOLDER / "lines.txt").read_text().splitlines() + SPANNING)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("kind, cases", [(Generator, 1000), (Programs, 500)])
def test_generated(kind, cases):
    """SEED and CASES in the environment make it another or a longer run."""
    generator = kind(int(os.environ.get("SEED", "1")))
    sources = [generator.template() for _ in range(int(os.environ.get("CASES", cases)))]
    failing = sum(isinstance(expected(source, ROW), Exception) for source in sources)
    assert failing < len(sources) / (4 if kind == Generator else 2)
    problems = differences(sources)
    assert not problems, "\n".join(problems)
