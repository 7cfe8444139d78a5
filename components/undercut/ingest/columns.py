"""Which column holds the text and which the label: found by name, or given."""

from collections.abc import Sequence

from undercut.errors import ConfigurationError

TEXT_NAMES = (
    *("text", "utterance", "message", "sentence", "headline", "content", "query", "question", "review", "comment"),
    *("tweet", "title", "body", "description", "document", "post", "prompt", "input", "instruction"),
)
LABEL_NAMES = (
    *("label", "intent", "category", "sentiment", "class", "target", "topic", "labels", "tag", "emotion", "polarity"),
)
MAXIMUM_COLUMNS = 5000
RESERVED = ("row", "text", "label")


def normal(name: str) -> str:
    """Return a column's name as it is compared: trimmed, without byte order mark, case folded."""
    return name.strip().strip("\ufeff").casefold()


def text_and_label(columns: Sequence[str], text: str, label: str, field: str, uri: str) -> tuple[int, int]:
    """Return the positions of the text and the label column.

    Args:
        columns: the file's column names.
        text: the setting ``text_column``; empty to find the column.
        label: the setting ``label_column``; empty to find the column.
        field: the setting that names the file, for errors.
        uri: the file, for errors.

    Raises:
        ConfigurationError: there are too many columns, two have one name, or a column is not there, not found,
            or found twice.
    """
    if len(columns) > MAXIMUM_COLUMNS:
        remedy = "Its first line should be a header: take the columns that are not needed out of it"
        raise ConfigurationError(field, f"{uri} with {len(columns):,}", f"at most {MAXIMUM_COLUMNS:,} columns", remedy)
    names = [normal(name) for name in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(field, uri, "a file whose columns differ in name", f"Rename one column '{twice}'")
    return (
        position(columns, text, "text_column", uri) if text else _find(columns, TEXT_NAMES, "text_column", uri),
        position(columns, label, "label_column", uri) if label else _find(columns, LABEL_NAMES, "label_column", uri),
    )


def position(columns: Sequence[str], given: str, setting: str, uri: str) -> int:
    """Return the position of a column that a setting names.

    Raises:
        ConfigurationError: the file has no such column.
    """
    names = [normal(name) for name in columns]
    if normal(given) not in names:
        raise ConfigurationError(setting, given, f"a column of {uri}: {_listed(columns)}")
    return names.index(normal(given))


def _find(columns: Sequence[str], known: Sequence[str], setting: str, uri: str) -> int:
    """Take ``text`` or ``label`` itself before the other usual names, of which only one may be there."""
    names = [normal(name) for name in columns]
    if known[0] in names:
        return names.index(known[0])
    found = [i for i, name in enumerate(names) if name in known]
    if len(found) == 1:
        return found[0]
    remedy = f"Set {setting} to one of them" + ("" if found else ", or add a header row if the file has none")
    why = f"more than one of {_listed([columns[i] for i in found])}" if found else "none that is known by its name"
    raise ConfigurationError(setting, "", f"a column of {uri}: {_listed(columns)} ({why})", remedy)


def _listed(columns: Sequence[str]) -> str:
    shown = [name if len(name) <= 40 else name[:39] + "…" for name in columns[:20]]
    return ", ".join(shown) + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")


def extra_names(columns: Sequence[str], taken: Sequence[int]) -> dict[int, str]:
    """Return position and name of every other column; names the dataset reserves get an underscore."""
    names: dict[int, str] = {}
    for i, column in enumerate(columns):
        if i in taken:
            continue
        name = column.strip().strip("\ufeff").encode("utf-8", "replace").decode() or f"column_{i + 1}"
        while name in RESERVED or name in names.values():
            name += "_"
        names[i] = name
    return names
