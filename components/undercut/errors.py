"""The failures a user meets: a setting or input that is wrong, a server that is away, a candidate that is lost."""


class ConfigurationError(ValueError):
    """A setting or an input that Undercut refuses; ends a run with exit code 2 and no traceback.

    Args:
        field: the setting's name as the user writes it, for example ``bar.minimum``.
        got: the value received.
        allowed: what is allowed, in words.
        remedy: what to do next, one sentence without a final stop.
    """

    def __init__(self, field: str, got: object, allowed: str, remedy: str = "") -> None:
        self.field, self.got, self.allowed, self.remedy = field, got, allowed, remedy
        shown = repr(got) if not isinstance(got, str) or got == "" else f"'{got}'"
        message = f"{field}: got {shown}; allowed: {allowed}."
        super().__init__(f"{message} {remedy}." if remedy else message)

    def within(self, mapping: str) -> "ConfigurationError":
        """Return the same error for a field that the user writes as an entry of ``mapping``."""
        return ConfigurationError(f"{mapping}.{self.field}", self.got, self.allowed, self.remedy)


class Unavailable(ConfigurationError):
    """A refusal that another attempt may not meet: a server does not answer, or something is in use."""


class CandidateLost(Exception):
    """A candidate failed in an expected way: it loses with this reason, and the run goes on."""
