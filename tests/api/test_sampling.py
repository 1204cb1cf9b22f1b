"""Sampling parameters as seen from outside."""
import pytest


def text(server, **fields):
    status, _, answer = server.complete("The sky is", **fields)
    assert status == 200, answer
    return answer["choices"][0]["text"]


def test_same_seed_same_bytes(server):
    fields = dict(max_tokens=20, temperature=1.2, seed=11)
    first = text(server, **fields)
    assert all(text(server, **fields) == first for _ in range(3))
    assert any(text(server, **{**fields, "seed": seed}) != first for seed in range(5))


def test_choices_differ_and_repeat(server):
    fields = dict(prompt="The sky is", max_tokens=12, temperature=1.5, seed=3, n=4)
    one = [c["text"] for c in server.complete(**fields)[2]["choices"]]
    two = [c["text"] for c in server.complete(**fields)[2]["choices"]]
    assert one == two and len(set(one)) > 1


def test_negative_and_large_seeds(server):
    for seed in (-1, 0, 2 ** 63 - 1, -2 ** 63):
        assert text(server, seed=seed, max_tokens=4) == text(server, seed=seed, max_tokens=4)


def test_temperature_zero_is_greedy(server):
    assert text(server, temperature=0, seed=1) == text(server, temperature=0, seed=2)


def test_top_k_one_is_greedy(server):
    assert text(server, temperature=2, top_k=1, seed=4) == text(server, temperature=0)
    assert text(server, temperature=2, top_p=0, seed=4) == text(server, temperature=0)


def test_logit_bias_bans_and_forces(server):
    answer = server.complete("The sky is", max_tokens=6, temperature=0, logit_bias={"70": 100})[2]["choices"][0]
    banned = server.complete("The sky is", max_tokens=6, temperature=0, logit_bias={"70": -100}, logprobs=0)[2]["choices"][0]
    assert len(set(answer["text"])) <= 1 or answer["text"] != banned["text"]


@pytest.mark.parametrize("fields", [{"presence_penalty": 2}, {"frequency_penalty": 2}, {"repetition_penalty": 1.5}])
def test_penalties_change_the_text(server, fields):
    greedy = dict(temperature=0, max_tokens=60, ignore_eos=True)
    assert text(server, **greedy, **fields) != text(server, **greedy)


GREEDY = dict(temperature=0, max_tokens=60, ignore_eos=True)


def test_penalties_see_a_window(server):
    whole, penalised = text(server, **GREEDY), dict(GREEDY, frequency_penalty=2)
    assert text(server, **penalised, repeat_last_n=0) == whole
    assert text(server, **penalised, repeat_last_n=-1) == text(server, **penalised) != whole
    assert text(server, **penalised, repeat_last_n=4) not in (whole, text(server, **penalised))
    assert text(server, **penalised, repeat_last_n=2 ** 31 - 1) == text(server, **penalised)


def test_dry(server):
    prompt = "one two three four, " * 6 + "one two"
    answer = lambda **fields: server.complete(prompt, **GREEDY, **fields)[2]["choices"][0]["text"]
    plain, strong = answer(), dict(dry_multiplier=20, dry_base=2, dry_allowed_length=1, dry_sequence_breakers=[])
    dry = answer(**strong)
    assert dry != plain and dry == answer(**strong)
    assert answer(**strong, dry_penalty_last_n=0) == plain == answer(**{**strong, "dry_multiplier": 0})
    assert answer(**{**strong, "dry_allowed_length": 10 ** 6}) == plain
    one = answer(logit_bias={"70": 100})
    assert len(set(one)) == 1 and answer(logit_bias={"70": 100}, **strong) != one
    breakers = {**strong, "dry_sequence_breakers": ["\n", one[0]]}
    assert answer(logit_bias={"70": 100}, **breakers) == one


def test_xtc(server):
    seeded = dict(max_tokens=30, temperature=1, seed=5, ignore_eos=True)
    plain = text(server, **seeded)
    out = text(server, **seeded, xtc_probability=1, xtc_threshold=0)
    assert out != plain and out == text(server, **seeded, xtc_probability=1, xtc_threshold=0)
    assert text(server, **seeded, xtc_probability=0) == text(server, **seeded, xtc_probability=1, xtc_threshold=1) == plain
    assert text(server, **GREEDY, xtc_probability=1) == text(server, **GREEDY)


@pytest.mark.parametrize("name, value", [
    ("repeat_last_n", -2), ("repeat_last_n", "x"), ("repeat_last_n", 1.5), ("dry_multiplier", -1), ("dry_multiplier", "1"),
    ("dry_base", 0.5), ("dry_allowed_length", 0), ("dry_penalty_last_n", -2), ("dry_sequence_breakers", "a"),
    ("dry_sequence_breakers", [1]), ("dry_sequence_breakers", [""]), ("dry_sequence_breakers", ["a"] * 65),
    ("dry_sequence_breakers", ["x" * 300] * 2), ("xtc_probability", 1.1), ("xtc_threshold", -0.1)])
def test_wrong_samplers_are_named(server, name, value):
    status, _, answer = server.complete(**{name: value})
    assert status == 400 and answer["error"]["param"] == name, answer


def test_extremes_are_accepted(server):
    for fields in ({"temperature": 2}, {"top_p": 0}, {"top_p": 1}, {"min_p": 1}, {"top_k": 0}, {"presence_penalty": -2},
                   {"n": 2}, {"stop": []}, {"stop": ["a", "b", "c", "d"]}, {"max_tokens": 1}):
        assert server.complete(**{"max_tokens": 2, **fields})[0] == 200, fields


def test_stop_may_be_long(server):
    assert server.complete(stop="x" * 10_000)[0] in (200, 400)


def test_max_tokens_zero(server):
    answer = server.complete(max_tokens=0)[2]
    assert answer["choices"][0]["text"] == "" and answer["usage"]["completion_tokens"] == 0
