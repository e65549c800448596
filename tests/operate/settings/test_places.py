"""The line of every key, in TOML of every shape and in YAML."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm.operate.settings.places import toml_lines, yaml_lines

TEXT = '''\
# a comment with [brackets] = "and more"
deadline = 30 # seconds
"a b".c = """x
y \\""" z""""
'it''s' = 1
providers = [
  "openai/gpt", # ]
  ["x", {kind = "A", tags = ["t", "u"]}],
]
[retry]
max_attempts=3

[[sinks]]
url = 'x]'
[sinks.more]
z = [ ]
[[sinks]]
url = "\\u0041\\"#"
[ a . "b.c" ]
d = 1979-05-27T07:32:00Z
e = \'\'\'
[not.a.table]\'\'\'
f = -1.5e3
'''.replace("'it''s' = 1\n", "'its' = 1\n")


def test_every_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    assert toml_lines(TEXT) == {
        ("deadline",): 2,
        ("a b",): 3,
        ("a b", "c"): 3,
        ("its",): 5,
        ("providers",): 6,
        ("providers", 0): 7,
        ("providers", 1): 8,
        ("providers", 1, 0): 8,
        ("providers", 1, 1): 8,
        ("providers", 1, 1, "kind"): 8,
        ("providers", 1, 1, "tags"): 8,
        ("providers", 1, 1, "tags", 0): 8,
        ("providers", 1, 1, "tags", 1): 8,
        ("retry",): 10,
        ("retry", "max_attempts"): 11,
        ("sinks",): 13,
        ("sinks", 0): 13,
        ("sinks", 0, "url"): 14,
        ("sinks", 0, "more"): 15,
        ("sinks", 0, "more", "z"): 16,
        ("sinks", 1): 17,
        ("sinks", 1, "url"): 18,
        ("a",): 19,
        ("a", "b.c"): 19,
        ("a", "b.c", "d"): 20,
        ("a", "b.c", "e"): 21,
        ("a", "b.c", "f"): 23,
    }


VALUES = st.sampled_from(["1", "-0.5", '"x#[="', "'\\'", '"""a\n"b\\""""', "'''\n]'''", "true", "[]", "[1,\n 2]", "{}"])
KEYS = st.sampled_from(["a", "b-c", '"d e"', "'#'", "f.g", 'h . "i"'])
LINES = st.lists(st.tuples(KEYS, VALUES, st.sampled_from(["", " # [c]", "\n", "\n\n# x"])), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["[t]", "[t.u]", "[[v]]", "[v.w]", '["x y"]']), LINES), max_size=5))
@settings(max_examples=150, deadline=None)
def test_every_value_of_every_valid_document_is_found(blocks: list[tuple[str, list[tuple[str, str, str]]]]) -> None:
    text = "".join(
        f"{head}\n" + "".join(f"{key} = {value}{tail}\n" for key, value, tail in lines) for head, lines in blocks
    )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = toml_lines(text)

    def check(value: object, path: tuple[str | int, ...]) -> None:
        if path and (isinstance(value, list) or not isinstance(value, dict) or not value):
            assert 1 <= lines[path] <= text.count("\n")
        if isinstance(value, dict):
            for key, one in value.items():
                check(one, (*path, key))
        elif isinstance(value, list):
            for index, one in enumerate(value):
                check(one, (*path, index))

    check(values, ())


def test_yaml_knows_its_lines() -> None:
    yaml = pytest.importorskip("yaml")
    text = "deadline: 3\nproviders:\n  - openai/x\n  - kind: A\n    model: m\n"
    assert yaml_lines(yaml.compose(text)) == {
        (): 1,
        ("deadline",): 1,
        ("providers",): 2,
        ("providers", 0): 3,
        ("providers", 1): 4,
        ("providers", 1, "kind"): 4,
        ("providers", 1, "model"): 5,
    }
