"""JSON Schemas for the tests of structured output: 200 that must work, 50 hostile ones that must be refused or
bounded. Families by hand: what people send, and every keyword at its edges."""


def obj(properties, required=None, **more):
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required,
            "additionalProperties": False, **more}


def array(items, **more):
    return {"type": "array", "items": items, **more}


STRING, INTEGER, NUMBER, BOOLEAN, NULL = ({"type": t} for t in ("string", "integer", "number", "boolean", "null"))
SHORT = {"type": "string", "maxLength": 12}
FEW = {"maxItems": 3}
COUNT = {"type": "integer", "minimum": 0, "maximum": 1000}


def optional(schema):
    return {"anyOf": [schema, NULL]}


def ref(name):
    return {"$ref": "#/$defs/" + name}


def scalars():
    yield from (STRING, INTEGER, NUMBER, BOOLEAN, NULL)
    yield {"type": ["string", "null"], "maxLength": 8}
    yield {"type": ["integer", "boolean", "null"]}
    for low, high in ((0, 1), (0, 255), (-128, 127), (1, 5), (1900, 2100), (-5, -2), (7, 7), (99, 101), (-1000000, 1000000)):
        yield {"type": "integer", "minimum": low, "maximum": high}
    yield {"type": "integer", "exclusiveMinimum": 0}
    yield {"type": "integer", "exclusiveMaximum": 0}
    yield {"type": "integer", "minimum": 2 ** 53}
    yield {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 3}
    for step in (2, 3, 5, 10, 12, 60, 100):
        yield {"type": "integer", "multipleOf": step, "minimum": 0}
    yield {"type": "integer", "multipleOf": 7, "minimum": -50, "maximum": 50}
    for low, high in ((0, 1), (-1, 1), (0.5, 0.75), (-90, 90), (-273.15, 1000), (36.5, 42.25), (0.001, 0.002)):
        yield {"type": "number", "minimum": low, "maximum": high}
    yield {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    yield {"type": "number", "exclusiveMinimum": 0}
    yield {"type": "number", "maximum": -0.5}
    for step in (0.01, 0.5, 0.25, 0.1):
        yield {"type": "number", "multipleOf": step, "minimum": 0, "maximum": 100}
    yield {"type": "number", "multipleOf": 25}


def strings():
    for low, high in ((0, 0), (0, 5), (1, 1), (3, 8), (10, 10), (0, 40)):
        yield {"type": "string", "minLength": low, "maxLength": high}
    yield {"type": "string", "minLength": 4}
    for pattern in (r"^[A-Z]{2}[0-9]{4}$", r"^#[0-9a-fA-F]{6}$", r"^(\+\d{1,3} )?\d{3}-\d{4}$", r"^[^\s@]{1,9}@[a-z]{2,9}\.org$",
                    r"^\d+\.\d+\.\d+$", r"^(red|green|blue)(-(light|dark))?$", r"^[α-ωа-я]{1,6}$", r"^\S{1,5}$",
                    r"^[\"\\/\b\n]{1,3}$", r"^a.c$", r"^$", r"^[\u4e00-\u9fff]{2,4}$", r"^(?:[01]\d|2[0-3]):[0-5]\d$",
                    r"^-?\d{1,4}(\.\d{1,2})?$", r"^.{0,6}$"):
        yield {"type": "string", "pattern": pattern}
    yield {"type": "string", "pattern": "[0-9]", "maxLength": 6}
    yield {"type": "string", "pattern": "^x", "maxLength": 6}
    yield {"type": "string", "pattern": "end$", "maxLength": 8}
    yield {"type": "string", "pattern": "^[a-z]*$", "minLength": 2, "maxLength": 4}
    for name in ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "json-pointer"):
        yield {"type": "string", "format": name}


def values():
    yield {"enum": ["low", "medium", "high"]}
    yield {"enum": [1, 2.5, "three", None, True, [4], {"five": 6}]}
    yield {"const": "fixed"}
    yield {"const": {"a": [1, {"b": None}], "ü": "ö\n\"\\"}}
    yield {"enum": ["日本語", "русский", "ελληνικά", "😀", "é"]}
    yield {"type": "string", "enum": [f"option_{i}" for i in range(60)]}
    yield {"type": "integer", "enum": [-1, 0, 1, 42, 1000]}
    yield {"enum": [1, 2, 3, 4, 5, 6], "multipleOf": 2, "minimum": 3}
    yield {"const": None}
    yield {"enum": ["a", "ab", "abc", ""]}


def arrays():
    yield array(INTEGER, maxItems=4)
    yield array(SHORT, minItems=1, maxItems=3)
    yield array(BOOLEAN, minItems=3, maxItems=3)
    yield array(array(array(COUNT, **FEW), **FEW), **FEW)
    yield {"type": "array", "prefixItems": [SHORT, COUNT, BOOLEAN], "items": False, "minItems": 3}
    yield {"type": "array", "prefixItems": [SHORT, COUNT], "items": NULL, "maxItems": 4}
    yield {"type": "array", "prefixItems": [{"const": "point"}], "items": COUNT, "minItems": 3, "maxItems": 3}
    yield array({"enum": ["a", "b", "c", "d"]}, uniqueItems=True)
    yield array({"enum": list(range(20))}, uniqueItems=True, minItems=2, maxItems=5)
    yield array(BOOLEAN, maxItems=0)
    yield array({"enum": ["mo", "tu", "we", "th", "fr", "sa", "su"]}, uniqueItems=True, minItems=1)
    yield array(obj({"x": COUNT, "y": COUNT}), minItems=2, maxItems=2)
    yield array(optional(SHORT), maxItems=5)
    yield {"type": "array", "maxItems": 2}
    yield array(COUNT, minItems=20, maxItems=25)


def objects():
    yield obj({"a": COUNT, "b": SHORT, "c": BOOLEAN})
    yield obj({"a": COUNT, "b": SHORT, "c": BOOLEAN}, [])
    yield obj({"a": COUNT, "b": SHORT, "c": BOOLEAN}, ["b"])
    yield obj({"a": COUNT, "b": SHORT, "c": BOOLEAN}, ["c"])
    yield obj({f"field_{i}": COUNT for i in range(25)}, [f"field_{i}" for i in range(0, 25, 5)])
    yield obj({}, [])
    yield {"type": "object", "additionalProperties": COUNT, "maxProperties": 3}
    yield {"type": "object", "properties": {"id": COUNT}, "required": ["id"], "additionalProperties": SHORT, "maxProperties": 3}
    yield {"type": "object", "properties": {"id": COUNT, "idx": SHORT}, "additionalProperties": BOOLEAN, "maxProperties": 4}
    yield {"type": "object", "properties": {"id": COUNT}, "required": ["id", "name"], "maxProperties": 3}
    yield {"type": "object", "patternProperties": {"^x-[a-z]{1,5}$": SHORT}, "additionalProperties": False, "maxProperties": 3}
    yield obj({"a": COUNT, "b": COUNT, "c": COUNT, "d": COUNT}, [], minProperties=2, maxProperties=3)
    yield obj({"ключ": SHORT, "鍵": COUNT, "clé \"x\"\n": BOOLEAN, "": NULL})
    yield obj({"outer": obj({"middle": obj({"inner": obj({"leaf": COUNT})})})})
    yield {"type": "object", "properties": {"never": False, "always": COUNT}, "required": ["always"],
           "additionalProperties": False}
    yield {"type": "object", "maxProperties": 1}
    yield {"type": "object", "required": ["only"], "additionalProperties": COUNT, "maxProperties": 1}
    yield {"type": "object", "properties": {"a": SHORT}, "patternProperties": {"^n_": COUNT, "^s_": SHORT}, "maxProperties": 3}


def combinations():
    yield {"anyOf": [COUNT, SHORT, NULL]}
    yield {"anyOf": [obj({"a": COUNT}), obj({"b": SHORT}), array(COUNT, **FEW)]}
    yield {"allOf": [{"type": "object", "properties": {"a": COUNT}, "required": ["a"]},
                     {"properties": {"b": SHORT}, "required": ["b"]}], "maxProperties": 2}
    yield {"allOf": [{"type": "integer", "minimum": 10}, {"maximum": 20}, {"multipleOf": 3}]}
    yield {"allOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"maxLength": 5, "minimum": 0, "maximum": 9}],
           "type": ["string", "integer"]}
    yield {"oneOf": [obj({"kind": {"const": "circle"}, "radius": COUNT}),
                     obj({"kind": {"const": "square"}, "side": COUNT}),
                     obj({"kind": {"const": "polygon"}, "points": array(COUNT, minItems=3, maxItems=4)})]}
    yield {"oneOf": [{"type": "integer", "maximum": 0}, {"type": "integer", "minimum": 1}, SHORT]}
    yield {"oneOf": [{"type": "array", "items": COUNT, "maxItems": 1}, {"type": "array", "items": SHORT, "minItems": 2,
                                                                      "maxItems": 3}]}
    yield {"type": "object", "properties": {"mail": SHORT, "phone": SHORT, "name": SHORT}, "required": ["name"],
           "additionalProperties": False, "anyOf": [{"required": ["mail"]}, {"required": ["phone"]}]}
    yield {"type": "object", "properties": {"type": {"enum": ["cat", "dog"]}, "lives": COUNT, "tricks": array(SHORT, **FEW)},
           "required": ["type"], "additionalProperties": False,
           "oneOf": [{"properties": {"type": {"const": "cat"}}, "required": ["lives"]},
                     {"properties": {"type": {"const": "dog"}}, "required": ["tricks"]}]}
    yield {"$ref": "#/$defs/base", "minimum": 5, "$defs": {"base": {"type": "integer", "maximum": 9}}}
    yield {"anyOf": [{"anyOf": [{"anyOf": [NULL, BOOLEAN]}, COUNT]}, SHORT]}
    yield {"allOf": [{"items": {"type": "integer"}}, {"prefixItems": [{"minimum": 5, "maximum": 6}]}], "type": "array",
           "maxItems": 3}
    yield {"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}]}
    yield obj({"value": {"anyOf": [COUNT, SHORT, BOOLEAN, NULL, array(COUNT, **FEW)]}, "unit": optional({"enum": ["kg", "m"]})})


def recursion():
    node = obj({"value": COUNT, "next": optional(ref("node"))})
    yield {**ref("node"), "$defs": {"node": node}}
    yield {**obj({"name": SHORT, "children": array({"$ref": "#"}, maxItems=2)})}
    yield {"$defs": {"tree": {"anyOf": [obj({"left": ref("tree"), "right": ref("tree")}), COUNT]}}, **ref("tree")}
    yield {"$defs": {"expr": {"oneOf": [obj({"op": {"enum": ["+", "-"]}, "args": array(ref("expr"), minItems=2, maxItems=2)}),
                                        COUNT]}}, "$ref": "#/$defs/expr"}
    yield {"$defs": {"even": {"anyOf": [NULL, obj({"odd": ref("odd")})]}, "odd": obj({"even": ref("even")})}, **ref("even")}
    yield {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}
    yield {"definitions": {"json": {"anyOf": [SHORT, COUNT, BOOLEAN, NULL, array({"$ref": "#/definitions/json"}, **FEW),
                                              {"type": "object", "additionalProperties": {"$ref": "#/definitions/json"},
                                               "maxProperties": 2}]}}, "$ref": "#/definitions/json"}
    yield obj({"comment": SHORT, "replies": array({"$ref": "#"}, maxItems=2), "author": obj({"name": SHORT})})
    yield {"$defs": {"menu": obj({"label": SHORT, "items": optional(array(ref("menu"), maxItems=2))})},
           **obj({"menu": ref("menu")})}
    yield {"$defs": {"a": {"$anchor": "here", **obj({"again": optional({"$ref": "#here"})})}}, "$ref": "#/$defs/a"}


def shapes():
    """What people really send."""
    money = obj({"amount": {"type": "number", "minimum": 0, "multipleOf": 0.01}, "currency": {"enum": ["EUR", "USD", "JPY"]}})
    address = obj({"street": SHORT, "city": SHORT, "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                   "country": {"type": "string", "pattern": "^[A-Z]{2}$"}})
    person = obj({"name": SHORT, "age": {"type": "integer", "minimum": 0, "maximum": 130},
                  "email": {"type": "string", "format": "email"}, "address": optional(ref("address"))})
    yield {**person, "$defs": {"address": address}}
    yield obj({"sentiment": {"enum": ["positive", "neutral", "negative"]}, "confidence": {"type": "number", "minimum": 0,
                                                                                        "maximum": 1}})
    yield obj({"location": SHORT, "unit": {"enum": ["celsius", "fahrenheit"]}}, ["location"], title="get_weather",
              description="Weather at a place")
    yield obj({"steps": array(obj({"explanation": SHORT, "output": SHORT}), minItems=1, maxItems=3), "final_answer": SHORT})
    yield obj({"invoice": {"type": "string", "pattern": "^INV-[0-9]{6}$"}, "date": {"type": "string", "format": "date"},
               "lines": array(obj({"sku": SHORT, "quantity": {"type": "integer", "minimum": 1, "maximum": 99}, "price": money}),
                              minItems=1, maxItems=2), "total": money, "paid": BOOLEAN})
    yield obj({"entities": array(obj({"text": SHORT, "type": {"enum": ["PER", "ORG", "LOC"]}, "start": COUNT, "end": COUNT}), **FEW)})
    yield obj({"title": SHORT, "tags": array({"type": "string", "pattern": "^[a-z]{2,8}$"}, **FEW), "rating": {
        "type": "number", "minimum": 0, "maximum": 5, "multipleOf": 0.5}, "published": optional({"type": "string",
                                                                                         "format": "date-time"})})
    yield obj({"jsonrpc": {"const": "2.0"}, "method": SHORT, "params": {"anyOf": [array(COUNT, **FEW), {
        "type": "object", "additionalProperties": COUNT, "maxProperties": 2}]}, "id": {"type": ["integer", "null"]}},
              ["jsonrpc", "method"])
    yield obj({"type": {"const": "Feature"}, "geometry": {"oneOf": [
        obj({"type": {"const": "Point"}, "coordinates": array(NUMBER, minItems=2, maxItems=2)}),
        obj({"type": {"const": "LineString"}, "coordinates": array(array(COUNT, minItems=2, maxItems=2), minItems=2,
                                                                     maxItems=3)})]},
               "properties": {"type": "object", "additionalProperties": SHORT, "maxProperties": 2}})
    yield obj({"question": SHORT, "options": array(SHORT, minItems=4, maxItems=4), "answer": {"type": "integer", "minimum": 0,
                                                                                            "maximum": 3}})
    yield obj({"ui": ref("element")}, **{"$defs": {"element": obj({
        "type": {"enum": ["div", "button", "form"]}, "label": SHORT, "children": array(ref("element"), maxItems=2),
        "attributes": array(obj({"name": SHORT, "value": SHORT}), maxItems=2)})}})
    yield obj({"host": {"type": "string", "format": "hostname"}, "port": {"type": "integer", "minimum": 1, "maximum": 65535},
               "tls": BOOLEAN, "allow": array({"type": "string", "format": "ipv4"}, **FEW)}, ["host", "port"])
    yield obj({"id": {"type": "string", "format": "uuid"}, "created": {"type": "string", "format": "date-time"},
               "url": {"type": "string", "format": "uri"}, "meta": {"type": "object", "additionalProperties": {
                   "type": ["string", "integer", "null"], "maxLength": 5}, "maxProperties": 2}})
    yield {"type": "object", "title": "Character", "$defs": {"Armor": {"title": "Armor", "type": "string", "enum": [
        "leather", "plate"]}, "Weapon": {"enum": ["sword", "axe"]}}, "properties": {
            "name": {"maxLength": 10, "title": "Name", "type": "string"}, "age": {"title": "Age", "type": "integer",
                                                                              "exclusiveMinimum": 0, "maximum": 120},
            "armor": {"$ref": "#/$defs/Armor"}, "weapon": {"allOf": [{"$ref": "#/$defs/Weapon"}], "default": "axe"}},
           "required": ["name", "age", "armor", "weapon"], "additionalProperties": False}
    yield obj({"action": {"anyOf": [obj({"name": {"const": "search"}, "query": SHORT}),
                                    obj({"name": {"const": "open"}, "page": COUNT}),
                                    obj({"name": {"const": "stop"}})]}, "thought": SHORT})
    yield obj({"sql": SHORT, "tables": array({"enum": ["users", "orders", "items"]}, uniqueItems=True), "limit": {
        "type": "integer", "minimum": 1, "maximum": 1000, "multipleOf": 10}})
    yield obj({"patient": obj({"born": {"type": "string", "format": "date"}, "sex": {"enum": ["f", "m", "x"]}}),
               "codes": array({"type": "string", "pattern": r"^[A-Z][0-9]{2}(\.[0-9]{1,2})?$"}, minItems=1, maxItems=3),
               "temperature": {"type": "number", "minimum": 30, "maximum": 45, "multipleOf": 0.1}})
    yield obj({"version": {"type": "string", "pattern": r"^\d{1,2}\.\d{1,2}\.\d{1,2}$"}, "dependencies": {
        "type": "object", "patternProperties": {"^[a-z]{1,8}$": {"type": "string", "pattern": r"^[~^]?\d\.\d$"}},
        "additionalProperties": False, "maxProperties": 3}})
    yield array(obj({"from": {"type": "string", "pattern": "^[a-h][1-8]$"}, "to": {"type": "string", "pattern": "^[a-h][1-8]$"},
                     "promote": {"enum": ["q", "r", "b", "n", None]}}), minItems=1, maxItems=3)
    yield obj({"lat": {"type": "number", "minimum": -90, "maximum": 90}, "lon": {"type": "number", "minimum": -180,
                                                                             "maximum": 180}, "label": optional(SHORT)})


def families():
    families = [scalars, strings, values, arrays, objects, combinations, recursion, shapes]
    for family in families:
        for i, schema in enumerate(family()):
            yield f"{family.__name__}-{i}", schema


def pairs():
    """Shapes within shapes, until there are 200."""
    inner = [schema for _, schema in families() if "$ref" not in str(schema)]
    for i in range(0, len(inner) - 1):
        first, second = inner[i * 7 % len(inner)], inner[i * 11 % len(inner)]
        if i % 3 == 0:
            yield obj({"first": first, "second": optional(second)}, ["first"])
        elif i % 3 == 1:
            yield array({"anyOf": [first, second]}, maxItems=2)
        else:
            yield obj({"items": array(obj({"a": first, "b": second}, ["a"]), minItems=1, maxItems=2), "n": COUNT})


def all_schemas(n=200):
    schemas = dict(families())
    assert len(schemas) <= n, len(schemas)
    for i, schema in enumerate(pairs()):
        if len(schemas) == n:
            break
        schemas[f"pairs-{i}"] = schema
    return schemas


def nested(depth, wrap, inner):
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def hostile():
    yield "deep objects", nested(300, lambda s: obj({"a": s}), STRING)
    yield "deep arrays", nested(600, array, STRING)
    yield "deep anyOf", nested(300, lambda s: {"anyOf": [s, NULL]}, STRING)
    yield "deep allOf", nested(300, lambda s: {"allOf": [s]}, STRING)
    yield "deep anyOf with a base", nested(100, lambda s: {"type": ["string", "null"], "anyOf": [s, NULL]}, STRING)
    yield "wide object", obj({f"p{i}": STRING for i in range(5000)})
    yield "wide object of options", obj({f"p{i}": STRING for i in range(5000)}, [])
    yield "wide open object", {"properties": {f"name{i}": INTEGER for i in range(5000)}, "additionalProperties": STRING}
    yield "wide enum", {"enum": [f"value {i * 7919}" for i in range(20000)]}
    yield "wide anyOf", {"anyOf": [obj({f"k{i}": STRING}) for i in range(2000)]}
    yield "wide oneOf", {"oneOf": [obj({"kind": {"const": i}, "x": STRING}) for i in range(2000)]}
    yield "wide oneOf that is not disjoint", {"oneOf": [obj({"kind": STRING, f"x{i}": STRING}, []) for i in range(500)]}
    yield "wide allOf", {"allOf": [{"properties": {f"k{i}": {"minimum": i}}} for i in range(2000)]}
    yield "exponential references", {"$defs": {f"d{i}": {"allOf": [ref(f"d{i + 1}"), ref(f"d{i + 1}")]} for i in range(60)} | {
        "d60": STRING}, **ref("d0")}
    yield "exponential choices", {"$defs": {f"d{i}": {"anyOf": [ref(f"d{i + 1}"), ref(f"d{i + 1}")]} for i in range(60)} | {
        "d60": STRING}, **ref("d0")}
    yield "exponential properties", {"$defs": {f"d{i}": obj({"a": ref(f"d{i + 1}"), "b": ref(f"d{i + 1}")}) for i in range(60)} | {
        "d60": STRING}, **ref("d0")}
    yield "cross product", {"allOf": [{"anyOf": [{"minimum": i * 10 + j} for j in range(10)]} for i in range(12)]}
    yield "cross product of objects", {"allOf": [{"anyOf": [obj({f"a{i}{j}": STRING}, []) for j in range(6)]} for i in range(20)]}
    yield "sets of schemas", {"$defs": {f"d{i}": {"properties": {"x": ref(f"d{(i * 7 + 1) % 40}"), "y": ref(f"d{(i * 11 + 3) % 40}")}}
                                        for i in range(40)}, "allOf": [ref(f"d{i}") for i in range(0, 40, 2)]}
    yield "subsets", {"$defs": {f"d{i}": {"properties": {"x": {"anyOf": [ref(f"d{(i + 1) % 30}"), ref(f"d{(i * 2) % 30}")]}}}
                                for i in range(30)}, "allOf": [ref(f"d{i}") for i in range(15)]}
    yield "circle of references", {"$defs": {"a": ref("b"), "b": ref("a")}, **ref("a")}
    yield "circle of allOf", {"allOf": [{"$ref": "#"}]}
    yield "circle of anyOf", {"anyOf": [{"$ref": "#"}, NULL]}
    yield "endless value", obj({"a": {"$ref": "#"}})
    yield "endless chain", {"$defs": {f"d{i}": obj({"a": ref(f"d{(i + 1) % 500}")}) for i in range(500)}, **ref("d0")}
    for i, pattern in enumerate((r"^(a+)+$", r"^(a|aa)+$", r"^(a*)*b$", r"^((a{1,100}){1,100}){1,100}$", r"^(.*a){25}$",
                                 r"^[ab]*a[ab]{30}$", r"^(a?){1000}a{1000}$", r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$",
                                 r"^.{1,100000}$", r"(a|b|c|d|e|f)*(a|b|c)(a|b|c|d){40}", "(" * 500 + "a" + ")" * 500,
                                 "|".join(f"word{i}" for i in range(5000)), r"^\p{L}{1,500}$", r"^(\d{1,50},){1,200}$")):
        yield f"pattern {i}", {"type": "string", "pattern": pattern}
    yield "pattern and names", {"properties": {"a" * 5000: STRING}, "patternProperties": {"^(a+)+b$": STRING}}
    yield "pattern and enum", {"enum": ["a" * 3000], "pattern": "^(a+)+b$"}
    yield "endless length", {"type": "string", "minLength": 2 ** 40}
    yield "great length", {"type": "string", "maxLength": 2 ** 31}
    yield "long lengths", {"type": "string", "minLength": 30000, "maxLength": 60000}
    yield "many items", array(obj({"a": STRING, "b": array(STRING, maxItems=1000)}), minItems=1000, maxItems=10000)
    yield "nested counts", nested(8, lambda s: array(s, minItems=50, maxItems=100), INTEGER)
    yield "counted members", {"properties": {f"p{i}": INTEGER for i in range(2000)}, "minProperties": 500, "maxProperties": 1000}
    yield "large step", {"type": "integer", "multipleOf": 999999937}
    yield "many steps", obj({f"p{i}": {"type": "integer", "multipleOf": 97 + i} for i in range(300)})
