"""A rule of the ``validate`` stage, and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["hard", "soft"]
"""A broken hard rule stops the run, a broken soft one warns."""
_NAMED = 5


@dataclass(frozen=True)
class Rule:
    """A rule and what was found."""

    rule: str
    kind: Kind
    passed: bool
    found: str
    expected: str


def named(names: Sequence[str]) -> str:
    """The first few of ``names`` on one line, and how many more there are."""
    shown = ", ".join(" ".join(name.split()) for name in names[:_NAMED])
    return f"{shown}, and {len(names) - _NAMED} more" if len(names) > _NAMED else shown or "none"


def share_rule(rule: str, kind: Kind, names: Sequence[str], clips: int, maximum: float) -> Rule:
    """At most the share ``maximum`` of ``clips`` is among ``names``."""
    share = len(names) / max(1, clips)
    found = f"{len(names)} of {clips} ({share:.1%})" + (f": {named(names)}" if names else "")
    return Rule(rule, kind, share <= maximum, found, f"≤ {maximum:.1%}")
