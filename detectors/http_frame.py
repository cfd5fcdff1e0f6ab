"""The HTTP rows of one round of ticks as columns: who asked which server, and how it answered."""

from __future__ import annotations

from functools import cached_property

from detectors.row_frame import Array, RowFrame, Words


class HttpFrame(RowFrame):
    """One entry per HTTP row (``schemas.events.HTTP``)."""

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
    def status(self) -> Array:
        """Status of the answer; 0 where none was seen."""
        return self.numbers("status")

    @cached_property
    def credentials(self) -> Array:
        """Whether the request bore credentials."""
        return self.numbers("credentials")
