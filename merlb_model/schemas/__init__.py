"""JSON schemas of what the stages leave, and the check against them."""

import json
from importlib import resources
from typing import Any, Literal

import jsonschema

from merlb_model.errors import MerlbError

Kind = Literal["metrics", "predictions", "meta", "validation"]


def schema(kind: Kind) -> dict[str, Any]:
    """The JSON schema of ``metrics.json``, ``validation.json``, a row of ``predictions.parquet`` or a ``meta.json``."""
    text = resources.files(__name__).joinpath(f"{kind}.schema.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def check(kind: Kind, *contents: Any, where: str, made_by: str) -> None:
    """Check each of ``contents`` against a schema.

    Raises:
        MerlbError: of another schema version, or something is missing or wrong; ``where`` names the place and
            ``made_by`` the command that writes it.
    """
    rules = schema(kind)
    wanted = rules["properties"].get("schema_version", {}).get("const")
    validator = jsonschema.Draft202012Validator(rules)
    for content in contents:
        found = content.get("schema_version") if isinstance(content, dict) else None
        if wanted is not None and found != wanted:
            raise MerlbError(
                f"{where}: schema version {found}, this merlb reads {wanted}: run `{made_by}` again, or use the "
                "merlb that wrote it"
            )
        error = jsonschema.exceptions.best_match(validator.iter_errors(content))
        if error is not None:
            raise MerlbError(f"{where}: {error.json_path}: {error.message[:200]}: run `{made_by}` again")
