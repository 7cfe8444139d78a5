"""What is done to every text: cleaned, kept if it is in a wanted language, personal data masked if asked for."""

from collections import Counter
from typing import Any, NamedTuple

from undercut.errors import ConfigurationError
from undercut.ingest.clean import Rejected, clean_text
from undercut.ingest.personal_data import mask
from undercut.ingest.rules import LANGUAGE, MASKED, REPAIR_BITS

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
        self._mask, self._identifier = mask_pii, _identifier() if self.wanted else None
        if self._identifier and not self.wanted <= (known := {*self._identifier.labels, ANY}):
            allowed = f"codes with commas between them, of any, {', '.join(sorted(known - {ANY}))}"
            raise ConfigurationError("languages", languages, allowed)

    def clean(self, value: object) -> Cleaned:
        """Apply the rules to one value.

        Raises:
            Rejected: with the reason.
        """
        text, repairs = clean_text(value, self.max_characters)
        language = ""
        if self._identifier:
            found, probability = self._identifier.classify(text)
            language = found if probability >= SURE else UNKNOWN
            if language not in self.wanted and language != UNKNOWN and ANY not in self.wanted:
                raise Rejected(LANGUAGE)
        if self._mask and (masked := mask(text, self.masked)) != text:
            text, repairs = masked, repairs | REPAIR_BITS[MASKED]
        return Cleaned(text, repairs, language)


def _identifier() -> Any:
    # Imported here: its model takes a second to load, and most runs do not ask for languages.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
