"""Reads the sample tables with pyarrow, pandas, Polars and DuckDB, and compares all values with
those written.

    python tests/readers/read_all.py FOLDER SCHEMAS

FOLDER is the folder to which `cargo test --release --test all samples_for_other_readers` writes
<table>.parquet and <table>.json (`tmp/table-samples` in the target folder); SCHEMAS is the project's
`schemas` folder. Needs pyarrow, pandas, polars and duckdb.
"""

import json
import pathlib
import sys

import duckdb
import numpy
import pandas
import polars
import pyarrow.parquet


def plain(value):
    """Converts a value to its JSON form."""
    if value is None or value is pandas.NA:
        return None
    if isinstance(value, (bytes, bytearray)):
        return list(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, numpy.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, numpy.generic):
        return value.item()
    return value


def by_pyarrow(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def by_pandas(path):
    return pandas.read_parquet(path, dtype_backend="pyarrow").to_dict("records")


def by_polars(path):
    return polars.read_parquet(path).to_dicts()


def by_polars_scan(path):
    return polars.scan_parquet(path).collect().to_dicts()


def by_duckdb(path):
    cursor = duckdb.connect().execute("select * from read_parquet(?)", [str(path)])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


READERS = [by_pyarrow, by_pandas, by_polars, by_polars_scan, by_duckdb]


def first_difference(expected, found):
    """Describes the first difference between written and read rows, or returns None."""
    if len(expected) != len(found):
        return f"{len(expected)} rows were written, {len(found)} were read"
    for number, (want, have) in enumerate(zip(expected, found)):
        if list(want) != list(have):
            return f"row {number}: columns {list(have)} instead of {list(want)}"
        for column in want:
            # The types must be equal, too: 1 is neither 1.0 nor True.
            if want[column] != have[column] or type(want[column]) is not type(have[column]):
                return f"row {number}, {column}: {have[column]!r} instead of {want[column]!r}"
    return None


def check_schema(path, description):
    """Compares a file's columns and writer with the description of its schema."""
    schema = pyarrow.parquet.read_schema(path)
    found = [(field.name, field.nullable) for field in schema]
    expected = [(column["name"], column["nullable"]) for column in description["columns"]]
    assert found == expected, f"{path}: columns {found}, described as {expected}"
    created_by = pyarrow.parquet.ParquetFile(path).metadata.created_by
    assert created_by == f"visplay writer-profile {description['writer_profile']}", created_by


def main():
    folder, schemas = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    failures = checked = values = 0
    for description_path in sorted(schemas.glob("*.json")):
        description = json.loads(description_path.read_text())
        if "table" not in description:
            continue
        for name in [description["table"], description["table"] + ".empty"]:
            path = folder / f"{name}.parquet"
            expected = json.loads((folder / f"{name}.json").read_text())
            # Columns are in alphabetical order in the JSON file, and in the schema's order in the
            # Parquet file.
            order = [column["name"] for column in description["columns"]]
            expected = [{column: row[column] for column in order} for row in expected]
            check_schema(path, description)
            for reader in READERS:
                difference = first_difference(expected, [plain(row) for row in reader(path)])
                checked += 1
                values += len(expected) * len(order)
                if difference:
                    failures += 1
                    print(f"{name}, {reader.__name__}: {difference}")
    assert checked > 0, "no tables found"
    print(f"{checked} readings, {values} values; {failures} readings differ")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
