"""Decoded shards of earlier versions: kept for going back to them, removed when asked."""

import shutil
from pathlib import Path

from merlb_model.files import read_json, remove_partials


def prune(extracted: Path, cache: Path) -> tuple[int, int]:
    """Remove the shards of ``cache`` that ``extracted`` does not name; no extraction may be at work.

    Returns:
        How many went, and their bytes.

    Raises:
        MerlbError: there is no ``shards.json`` in ``extracted``.
    """
    current = {f"{shard}-{key}" for shard, key in read_json(extracted / "shards.json", "merlb extract").items()}
    remove_partials(cache)
    earlier = [folder for folder in cache.glob("*-*") if folder.is_dir() and folder.name not in current]
    freed = sum(file.stat().st_size for folder in earlier for file in folder.rglob("*"))
    for folder in earlier:
        shutil.rmtree(folder)
    return len(earlier), freed
