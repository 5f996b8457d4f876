"""Arrow files, as Hugging Face's ``save_to_disk`` writes them, with the interface of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class ArrowFile:
    """A file of record batches, as a stream or with an index; memory-mapped, so that it may be larger than memory.

    Raises:
        pyarrow.ArrowException: it is no such file. So do the methods.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow

        self._source = pyarrow.memory_map(str(path))
        self._indexed = self._source.read(6) == b"ARROW1"
        self._source.seek(0)
        self.schema_arrow: Any = self._reader().schema

    def _reader(self) -> Any:
        from pyarrow import ipc

        self._source.seek(0)
        return ipc.open_file(self._source) if self._indexed else ipc.open_stream(self._source)

    def _batches(self) -> Iterator[Any]:
        reader = self._reader()
        if self._indexed:
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            yield from reader

    def count_rows(self) -> int:
        """Return the number of rows."""
        return sum(batch.num_rows for batch in self._batches())

    def iter_batches(self, size: int, columns: Sequence[str], use_threads: bool = False) -> Iterator[Any]:
        """Yield batches of at most ``size`` rows; a column may be one field of a struct, such as "image.bytes"."""
        import pyarrow

        for batch in self._batches():
            batch.validate(full=True)  # offsets in a damaged file may point anywhere
            names = [name.partition(".")[0] if name not in batch.schema.names else name for name in columns]
            arrays = [
                self._column(batch.column(name), column, name) for name, column in zip(names, columns, strict=True)
            ]
            selected = pyarrow.RecordBatch.from_arrays(arrays, names)
            for start in range(0, selected.num_rows, size):
                yield selected.slice(start, size)

    @staticmethod
    def _column(values: Any, column: str, name: str) -> Any:
        import pyarrow

        if column == name:
            return values
        field = column.partition(".")[2]
        return pyarrow.StructArray.from_arrays([values.field(field)], [field], mask=values.is_null())
