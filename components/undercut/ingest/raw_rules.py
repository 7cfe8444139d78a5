"""The rules by which paragraphs of raw text are rejected or repaired, and the splits they go to."""

from undercut.ingest.quality import QUALITY_RULES
from undercut.ingest.rules import BAD_UTF8, CONTROL, JSON, LANGUAGE, MASKED, NO_TEXT, REJECTED, REPAIR_BITS, REPAIRED

SPLITS = ("unlabelled", "unlabelled_validation")

REPEATED_PARAGRAPH = "repeated paragraph"
NEAR_PARAGRAPH = "near-duplicate"
IN_TEST = "in a labelled split"
CUT = "cut"
RULES = {
    BAD_UTF8: REJECTED[BAD_UTF8],
    JSON: REJECTED[JSON],
    NO_TEXT: "A JSON record without a text under one of the usual names, or a text that is empty after cleaning, is "
    "rejected.",
    LANGUAGE: REJECTED[LANGUAGE],
    REPEATED_PARAGRAPH: "Of paragraphs with the same words (NFKC, case folded, without punctuation) the first is kept.",
    NEAR_PARAGRAPH: "Of paragraphs whose five-byte shingles overlap by near_duplicates or more (Jaccard similarity, by "
    "MinHash) the first is kept.",
    IN_TEST: "A paragraph whose words stand in a labelled validation or test row is rejected.",
    **QUALITY_RULES,
}
REPAIRS = {
    BAD_UTF8: REPAIRED[BAD_UTF8],
    CONTROL: REPAIRED[CONTROL],
    MASKED: REPAIRED[MASKED],
    CUT: "A paragraph of more than max_characters is cut at white space.",
}
BITS = {**{reason: REPAIR_BITS[reason] for reason in (BAD_UTF8, CONTROL, MASKED)}, CUT: 1 << 7}
# A fate below len(SPLITS) is a split; the others are reasons.
FATES = (*SPLITS, *RULES)
