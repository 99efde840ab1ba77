"""Reading text, JSON and YAML that anybody may have written.

Only regular files are read: a pipe would block, a device never end. Size, depth and number of
values are bounded, far above what lists and settings need. YAML is read by the core schema of
version 1.2: `010` is ten, `1:30`, `yes` and `1_000` are text. A mistake names file and line.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
#: A place in a YAML file, ("rows", 0, "train.lr") -> its line.
Lines = Mapping[tuple[str | int, ...], int]

#: The largest files that are read, in bytes. The longest published list has 20 MB.
TEXT_BYTES, YAML_BYTES = 256 * 2**20, 2**20
#: The most values, aliases written out and long texts counted several times; levels of nesting.
YAML_VALUES, DEPTH = 100_000, 50
#: How many mistakes a message names.
_NAMED = 3
_KINDS = {
    stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device", stat.S_ISBLK: "a device",
}  # fmt: skip
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: What to write where a value has another type.
_HINTS = {
    "bool_type": "; write true or false",
    "string_type": "; put a text in quotes",
    "too_short": "; leave it out for all there are",
}


class FileError(ValueError):
    """A file whose content cannot be used; the message says where and why."""


# ---- Files ----


def check_regular(path: Path) -> int:
    """The size in bytes of a regular file. OSError for another kind, and if there is none."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a name with a NUL byte", str(path))
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for is_kind, name in _KINDS.items():
        if is_kind(status.st_mode):
            raise OSError(errno.EINVAL, f"{name}, not a file", str(path))
    return status.st_size


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file. OSError for another kind, and for one of more than `most`."""
    size = check_regular(path)
    with path.open("rb") as file:
        data = file.read(most + 1) if size <= most else b""
    if len(data) > most or size > most:
        raise OSError(errno.EFBIG, f"larger than {most / 2**20:g} MiB", str(path))
    return data


def read_text(path: Path, most: int = TEXT_BYTES) -> str:
    """The text of a UTF-8 file. FileError naming the line for other bytes; OSError as above."""
    return decode(read_regular(path, most), str(path))


def decode(data: bytes, where: str) -> str:
    """UTF-8 as text, without a byte order mark. FileError for other bytes, and for a NUL."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(
            f"{where}:{line} is not UTF-8 text: byte 0x{data[error.start]:02x}; save it as UTF-8"
        ) from error
    if (at := text.find("\0")) >= 0:
        raise FileError(f"{where}:{text.count(chr(10), 0, at) + 1} has a NUL byte: it is no text")
    return text


# ---- JSON ----


def parse_json(text: str | bytes, where: str) -> Any:
    """The content of a JSON text. FileError if it is none, is nested too deeply, gives a name
    twice, or holds text that is no Unicode."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise FileError(f"{where}: {twice!r} is given twice")
        return found

    text = decode(text, where) if isinstance(text, bytes) else text
    try:
        content = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise FileError(f"{where} is nested more than {DEPTH} levels deep") from None
    except json.JSONDecodeError as error:
        raise FileError(f"{where} is not JSON: line {error.lineno}: {error.msg}") from error
    except FileError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise FileError(f"{where} is not JSON: {error}") from error
    _check_values(content, where)
    return content


def _check_values(content: Any, where: str) -> None:
    todo = [(content, 0)]
    while todo:
        value, depth = todo.pop()
        if depth > DEPTH:
            raise FileError(f"{where} is nested more than {DEPTH} levels deep")
        if isinstance(value, dict):
            todo += [(one, depth + 1) for pair in value.items() for one in pair]
        elif isinstance(value, list):
            todo += [(one, depth + 1) for one in value]
        elif isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise FileError(f"{where}: {value!r} is no Unicode text") from None
        if isinstance(value, str) and "\0" in value:
            raise FileError(f"{where}: {value!r} has a NUL character")


# ---- YAML ----


def read_yaml(path: Path, kind: type[M]) -> tuple[M, Lines]:
    """A YAML file's content as a `kind`, with types taken strictly, and the lines of its values.

    FileError names file and line. OSError as `read_regular`.
    """
    content, lines = parse_yaml(read_text(path, YAML_BYTES), str(path))
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected `name: value` lines, got {content!r:.80}")
    for name, value in content.items():
        if value is None:
            line = lines[(name,)]
            raise FileError(f"{path}:{line}: {name} has no value; give one, or leave the line out")
    try:
        return validate(kind, content), lines
    except ValidationError as error:
        # An array of which no value is valid is called too short as well.
        found = [one for one in error.errors(include_url=False)
                 if one["type"] != "too_short" or not one["input"]]  # fmt: skip
        texts = [f"{place(path, lines, one['loc'])}: {mistake(one)}" for one in found[:_NAMED]]
        more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
        raise FileError("\n".join(texts + more)) from error


def validate(kind: type[M], content: Mapping[str, Any]) -> M:
    """`content`, of JSON's types, as a `kind`: `true` is no number, and a text none either.

    ValidationError otherwise.
    """
    return kind.model_validate_json(json.dumps(content), strict=True)


def mistake(error: Mapping[str, Any]) -> str:
    """One of a ValidationError's errors in words: where, what is wanted and what was given."""
    where = ".".join(map(str, error["loc"])) or "the file"
    given = "" if error["type"] == "missing" else f" (given: {error['input']!r:.80})"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}{given}{_HINTS.get(error['type'], '')}"


def place(path: Path, lines: Lines, loc: tuple[str | int, ...]) -> str:
    """`FILE:LINE` of what `loc` names, or of the innermost thing around it that has a line."""
    around = (loc[:end] for end in range(len(loc), -1, -1))
    return f"{path}:{next((lines[one] for one in around if one in lines), 1)}"


def parse_yaml(text: str, where: str) -> tuple[Any, Lines]:
    """The content of a YAML text, and the line of each value.

    Names of a mapping are texts. FileError, naming the line, for what is no YAML, a name given
    twice, too many or too deeply nested values (aliases count as what they stand for), and tags.
    """
    from yaml import MarkedYAMLError, YAMLError

    builder = _Builder(text, where)
    try:
        return builder.document(), builder.lines
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise FileError(f"{where}{line} is not YAML: {error.problem or error.context}") from error
    except YAMLError as error:  # a character that YAML does not allow
        raise FileError(f"{where} is not YAML: {str(error).splitlines()[0]}") from error


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted YAML value is. ValueError for a number of thousands of digits."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _Builder:
    """Makes values of the parser's events; PyYAML's own constructor follows YAML 1.1."""

    def __init__(self, text: str, where: str) -> None:
        import yaml

        self.yaml, self.where = yaml, where
        self.events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self.lines: dict[tuple[str | int, ...], int] = {}
        #: Anchor -> its value, and how many values are in it.
        self.anchors: dict[Any, tuple[Any, int]] = {}
        self.values = 0

    def document(self) -> Any:
        """The one document of the text; None if it has none."""
        next(self.events)  # the stream's start
        if isinstance(next(self.events), self.yaml.StreamEndEvent):
            return None
        content = self.value(next(self.events), ())
        next(self.events)  # the document's end
        if not isinstance(after := next(self.events), self.yaml.StreamEndEvent):
            raise self.error(after, "a second document; a file holds one")
        return content

    def error(self, event: Any, text: str) -> FileError:
        return FileError(f"{self.where}:{_line(event)}: {text}")

    def value(self, event: Any, at: tuple[str | int, ...]) -> Any:
        yaml, before = self.yaml, self.values
        self.lines[at] = _line(event)
        anchor, known = getattr(event, "anchor", None), isinstance(event, yaml.AliasEvent)
        if known and anchor not in self.anchors:
            raise self.error(event, f"*{anchor} stands for nothing that is complete before it")
        text = getattr(event, "value", "")
        self.values += self.anchors[anchor][1] if known else 1 + len(text) // 100
        if self.values > YAML_VALUES or len(at) > DEPTH:
            raise self.error(
                event, f"more than {YAML_VALUES} values, or nested more than {DEPTH} levels deep"
            )
        if known:
            return self.anchors[anchor][0]
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise self.error(event, f"the tag {event.tag} is not known; write the value alone")
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(one := next(self.events), yaml.SequenceEndEvent):
                value.append(self.value(one, (*at, len(value))))
        else:
            value = self.mapping(at)
        if anchor is not None:
            self.anchors[anchor] = value, self.values - before
        return value

    def scalar(self, event: Any) -> Any:
        if "\0" in event.value:
            raise self.error(event, f"{event.value!r:.80} has a NUL character")
        if not event.implicit[0]:
            return event.value
        try:
            return scalar(event.value)
        except ValueError as error:
            raise self.error(event, f"{event.value:.20}... is too long for a number") from error

    def mapping(self, at: tuple[str | int, ...]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        while not isinstance(event := next(self.events), self.yaml.MappingEndEvent):
            if not isinstance(event, self.yaml.ScalarEvent):
                raise self.error(event, "a name must be a text")
            if (name := event.value) in value:
                first = self.lines[(*at, name)]
                raise self.error(event, f"{name!r} is given twice, first in line {first}")
            value[name] = self.value(next(self.events), (*at, name))
            self.lines[(*at, name)] = _line(event)
        return value


def dump_yaml(content: Mapping[str, Any]) -> str:
    """`content` as YAML that `parse_yaml` reads as it was."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what only version 1.2 takes for a number, too."""

    for pattern, tag in ((_INT, "int"), (_FLOAT, "float")):
        Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, list("-+.0123456789"))
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True)
