"""The TLS rows of one round of ticks as columns: which server showed which certificate."""

from __future__ import annotations

from functools import cached_property

from detectors.index import I64
from detectors.row_frame import Array, RowFrame, Words


class TlsFrame(RowFrame):
    """One entry per TLS row (``schemas.events.TLS``)."""

    @cached_property
    def src(self) -> Words:
        """Client."""
        return self.addresses("src")

    @cached_property
    def dst(self) -> Words:
        """Server."""
        return self.addresses("dst")

    @cached_property
    def dst_port(self) -> Array:
        """Port of the server."""
        return self.numbers("dst_port")

    @cached_property
    def sni(self) -> tuple[I64, list[str]]:
        """Server name asked for."""
        return self.texts("sni")

    @cached_property
    def certificate(self) -> tuple[I64, list[str]]:
        """SHA-256 of the certificate, hex; empty where none was visible."""
        return self.texts("certificate")

    @cached_property
    def issuer(self) -> tuple[I64, list[str]]:
        """Common name of the certificate's issuer."""
        return self.texts("issuer")

    @cached_property
    def not_before(self) -> Array:
        """Begin of validity, ns since epoch."""
        return self.numbers("not_before")
