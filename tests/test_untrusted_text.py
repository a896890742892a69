"""JSON, YAML, tables and settings with limits: what exceeds them is an error of one sentence."""

import io
import time
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.files import BOMB, DEEP

from featurize.config import FeaturizeConfig
from featurize.dataset.json_text import parse_json
from featurize.dataset.tables import read_table, write_table
from featurize.dataset.yaml_text import parse_yaml
from featurize.storage import StoragePath
from jobs.config import JobConfig, featurized_with, load_config
from jobs.errors import ConfigError
from train.config import TrainConfig


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty: an interrupted copy"),
        (b" \n", "is empty"),
        (b"[" * DEEP, "is nested 200,000 deep, expected at most 32"),
        (b'{"a":' * DEEP, "is nested 200,000 deep"),
        (b'["' + b"[" * 50 + b'", "\\"' + b"{" * 50 + b'", [', "is not JSON"),
        (b"1" * 5000, "has an integer of 5,000 digits"),
        (b"[NaN]", "has the value NaN"),
        (b"-Infinity", "has the value -Infinity"),
        (b"[1e999]", "has the number 1e999, which is too large"),
        (b'{"a": \xff}', "is not JSON"),
        (b'"' * 99_999, "is not JSON"),
        (b"[0,0]" + b" " * 100, "has more than 100 bytes"),
    ],
)
def test_json_beyond_a_limit_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        parse_json(content, 100 if "bytes" in problem else 4 << 20)
    assert "\n" not in str(caught.value)


def test_json_within_the_limits_is_read():
    text = '{"a": [[{"b": "[[[["}], 9007199254740993, -1.5e300, "\\"{{"]}'
    assert parse_json(text) == {"a": [[{"b": "[[[["}], 9007199254740993, -1.5e300, '"{{']}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "has more than 10,000 values, those of aliases included"),
        ("a: &a [*a]", r"has the alias \*a inside of its own value"),
        ("a: " + "[" * 300, "is nested more than 16 deep"),
        ("".join(" " * i + "a:\n" for i in range(200)), "is nested more than 16 deep"),
        ("- " * 200, "is nested more than 16 deep"),
        ("a: " + "1" * 5000, r"an integer of 5,000 characters \(line 1\)"),
        ("a: 0x" + "1" * 5000, "an integer of 5,002 characters"),
        ("a: 1" + ":1" * 5000 + ".5", "a value does not fit its tag"),
        ("a: !!timestamp 2026-99-99", "a value does not fit its tag"),
        ("a: !!bool text", "a value does not fit its tag"),
        ("a: 1\nb: 2\na: 3", r"the key 'a' is there twice \(line 3\)"),
        ("{a: {b: 1, b: 2}}", "the key 'b' is there twice"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("--- 1\n--- 2", "found another document"),
        ("#" * 70_000, "has more than 65,536 bytes"),
    ],
)
def test_yaml_beyond_a_limit_is_refused(text, problem):
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(ValueError, match=problem) as caught:
            parse_yaml(text)
        assert time.process_time() - begun < 5
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_yaml_within_the_limits_is_read():
    text = "base: &base {a: 1, b: [2, x]}\nother:\n  <<: *base\n  a: 3\nday: 2026-99-99\n"
    expected = {"base": {"a": 1, "b": [2, "x"]}, "other": {"a": 3, "b": [2, "x"]}, "day": "2026-99-99"}
    assert parse_yaml(text) == expected


NUMBERS = [
    f"{section}.{key}"
    for section, model in (("featurize", FeaturizeConfig), ("train", TrainConfig))
    for key, field in model.model_fields.items()
    if isinstance(field.default, int | float) and not isinstance(field.default, bool)
] + ["featurize.excerpt_seconds", "train.segments_per_epoch", "train.patience", "train.replicas"]


@pytest.mark.parametrize("setting", NUMBERS)
def test_a_setting_beyond_its_range_names_setting_value_and_range(setting):
    for value in (".inf", "-.inf", ".nan", "1.0e+10", "-1", "99999999999", "2026-99-99", "[1]"):
        with pytest.raises(ConfigError) as caught:
            load_config(None, [f"{setting}={value}"])
        [_, line, *_] = str(caught.value).splitlines()
        assert line.startswith(f"  - {setting}: ")
        assert ", found " in line
        assert any(words in line for words in ("at most ", "less than ", "from 1 to 4096"))


def test_a_file_of_settings_is_named_with_what_is_wrong(tmp_path):
    file = tmp_path / "config.yaml"
    for text, problem in ((BOMB, "more than 10,000 values"), ("featurize: {max_seconds: .inf}", "max_seconds")):
        file.write_text(text)
        for read in (featurized_with, lambda file: load_config(file, [])):
            with pytest.raises(ConfigError, match=problem) as caught:
                read(file)
            assert str(file) in str(caught.value)
            assert caught.value.exit_status == 2
    with pytest.raises(ConfigError, match="checkpoint_every"):
        load_config(None, ["train.checkpoint_every=99999999999999999999 steps"])
    assert load_config(None, []) == JobConfig()


SCHEMA = pa.schema([pa.field("a", pa.string(), nullable=False), pa.field("b", pa.int32())])


def test_a_table_with_another_schema_is_refused(tmp_path):
    path = StoragePath.of(tmp_path / "table.parquet")
    table = pa.table([["x", "y"], [1, None]], schema=SCHEMA)
    write_table(path, table)
    assert read_table(path, schema=SCHEMA).equals(table)
    assert read_table(path, ["b"], SCHEMA).column_names == ["b"]
    for other, problem in (
        (table.drop_columns("a"), "lacks the column a"),
        (table.set_column(1, "b", pa.array([1.5, 2])), "its column b is double, expected int32"),
        (table.append_column("c", pa.array([1, 2])), "has the unknown column 'c'"),
        (table.select(["b", "a"]), "in another order"),
        (pa.table({"a": ["x", None], "b": pa.array([1, 2], pa.int32())}), "expected string without nulls"),
    ):
        write_table(path, other)
        with pytest.raises(ValueError, match=problem):
            read_table(path, schema=SCHEMA)


def test_a_table_that_grows_when_it_is_read_is_refused_before_it_does(tmp_path):
    """A string of a megabyte, repeated by its index: 9 kB on disk, 4 GB when decoded."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array(["x" * (1 << 20)]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": text}), sink, compression="zstd", store_schema=False)
    assert len(sink.getvalue()) < 10_000
    (tmp_path / "bomb.parquet").write_bytes(sink.getvalue())
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(ValueError, match="has more than 1,073,741,824 bytes in the column a"):
        read_table(StoragePath.of(tmp_path / "bomb.parquet"))
    assert pa.default_memory_pool().max_memory() - before < 200e6
