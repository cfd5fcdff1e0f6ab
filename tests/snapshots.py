"""Snapshots that outlive the next feeding: what a stage gives are views of its memory."""

from __future__ import annotations

from collections.abc import Mapping

from detectors.snapshot import Section, decode_state, encode_state


def copied(sections: Mapping[str, Section]) -> dict[str, Section]:
    """Return sections as they come back from where they are kept."""
    return {n: Section(s.version, decode_state(encode_state(s.state))) for n, s in sections.items()}
