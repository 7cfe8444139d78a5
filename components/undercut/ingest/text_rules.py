"""What is done to every text: cleaned, kept if it is in a wanted language, personal data masked if asked for."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from undercut.errors import ConfigurationError
from undercut.ingest.clean import Rejected, clean_text
from undercut.ingest.personal_data import mask
from undercut.ingest.rules import LANGUAGE, MASKED, REPAIR_BITS

if TYPE_CHECKING:
    from undercut.ingest.languages import Languages, Told

Item = TypeVar("Item")
# So many texts have their languages told together, or fewer long ones.
BATCH_TEXTS, BATCH_CHARACTERS = 1024, 1 << 20
# Below this probability a language is not told: "ok" may be in any.
SURE = 0.5
UNKNOWN = "und"  # ISO 639-2 for undetermined
ANY = "any"


class Cleaned(NamedTuple):
    """A text that is kept, the bits of its repairs, and its language ("" where that is not asked)."""

    text: str
    repairs: int
    language: str


class TextRules:
    """The rules with their settings; ``masked`` counts what was replaced, by kind."""

    def __init__(self, max_characters: int, languages: str = "", mask_pii: bool = False) -> None:
        """Load what the settings need.

        Args:
            max_characters: a longer text is rejected.
            languages: ISO 639-1 codes with commas between them, "any" to tell and keep all, or empty.
            mask_pii: replace personal data.

        Raises:
            ConfigurationError: a language is not known.
        """
        self.max_characters, self.masked = max_characters, Counter[str]()
        self.wanted = frozenset(code.strip().lower() for code in languages.split(",") if code.strip())
        self._mask, self._languages = mask_pii, _languages() if self.wanted else None
        self._ready = dict[object, Cleaned]()
        if self._languages and not self.wanted <= (known := {*self._languages.labels, ANY}):
            allowed = f"codes with commas between them, of any, {', '.join(sorted(known - {ANY}))}"
            raise ConfigurationError("languages", languages, allowed)

    def ahead(
        self, items: Iterable[Item], value: Callable[[Item], object], characters: Callable[[Item], int]
    ) -> Iterator[Item]:
        """Yield the items as they come; where languages are asked, those of a batch are told before its first.

        Args:
            items: what holds the values that :meth:`clean` will be given.
            value: returns an item's value.
            characters: returns an item's size, all its values together.
        """
        if not self._languages:
            yield from items
            return
        batch, size = list[Item](), 0
        for item in items:
            batch.append(item)
            size += characters(item)
            if len(batch) >= BATCH_TEXTS or size >= BATCH_CHARACTERS:
                self._make_ready(self._languages, map(value, batch))
                yield from batch
                batch, size = [], 0
        self._make_ready(self._languages, map(value, batch))
        yield from batch

    def _make_ready(self, languages: "Languages", values: Iterable[object]) -> None:
        cleaned = dict[object, tuple[str, int]]()
        for value in values:
            if isinstance(value, str | bytes) and value not in cleaned:
                with contextlib.suppress(Rejected):  # clean() will say so in its turn
                    cleaned[value] = clean_text(value, self.max_characters)
        told = languages.tell([text for text, _ in cleaned.values()])
        self._ready = {
            value: Cleaned(text, repairs, _sure(found))
            for (value, (text, repairs)), found in zip(cleaned.items(), told, strict=True)
        }

    def clean(self, value: object) -> Cleaned:
        """Apply the rules to one value.

        Raises:
            Rejected: with the reason.
        """
        text, repairs, language = self._cleaned(value)
        if language and language not in self.wanted and language != UNKNOWN and ANY not in self.wanted:
            raise Rejected(LANGUAGE)
        if self._mask and (masked := mask(text, self.masked)) != text:
            text, repairs = masked, repairs | REPAIR_BITS[MASKED]
        return Cleaned(text, repairs, language)

    def _cleaned(self, value: object) -> Cleaned:
        ready = self._ready.get(value) if isinstance(value, str | bytes) else None
        if ready:
            return ready
        text, repairs = clean_text(value, self.max_characters)
        return Cleaned(text, repairs, _sure(self._languages.tell([text])[0]) if self._languages else "")


def _sure(told: "Told") -> str:
    return told.language if told.probability >= SURE else UNKNOWN


def _languages() -> "Languages":
    # Imported here: its model takes half a second to load, and most runs do not ask for languages.
    from undercut.ingest.languages import Languages

    return Languages()
