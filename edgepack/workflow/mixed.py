"""Packs of one name that were made of several files: a model that was trained again since."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.records import Pack


def mixed(packs: Sequence[Pack]) -> list[str]:
    """One sentence for each model whose packs here come from different files of that name."""
    found: dict[str, dict[str, list[str]]] = {}
    for pack in packs:
        if pack.source_sha256:
            recipes = found.setdefault(pack.model, {}).setdefault(pack.source_sha256, [])
            recipes.append(f"{pack.recipe} for {pack.target}")
    return [_told(model, by_file) for model, by_file in found.items() if len(by_file) > 1]


def _told(model: str, by_file: dict[str, list[str]]) -> str:
    files = "; ".join(f"{digest[:8]}: {', '.join(names)}" for digest, names in by_file.items())
    return (
        f"the packs of {model} come from {len(by_file)} different files of that name (by the "
        f"file's SHA-256: {files}): pack what is old again, or remove it"
    )
