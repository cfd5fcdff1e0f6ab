"""The link rows of one round of ticks as columns: who says what about which address."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from detectors.index import I64
from detectors.mixing import U64
from detectors.row_frame import Array, RowFrame, Words


class LinkFrame(RowFrame):
    """One entry per link row (``schemas.events.LINK``)."""

    @cached_property
    def claim(self) -> I64:
        """Kind of claim, ``LinkClaim``."""
        return self.numbers("claim").astype(np.int64)

    @cached_property
    def mac(self) -> U64:
        """Ethernet source."""
        return self.numbers("mac")

    @cached_property
    def destination_mac(self) -> U64:
        """Ethernet destination."""
        return self.numbers("destination_mac")

    @cached_property
    def claimed_mac(self) -> U64:
        """Hardware address that the claim names."""
        return self.numbers("claimed_mac")

    @cached_property
    def number(self) -> Array:
        """DHCP transaction, lifetime of a router, port of a listener."""
        return self.numbers("number")

    @cached_property
    def vlan(self) -> Array:
        """Outer VLAN id."""
        return self.numbers("vlan")

    @cached_property
    def claimed(self) -> Words:
        """Address that the claim is about."""
        return self.addresses("claimed")

    @cached_property
    def target(self) -> Words:
        """Address asked for or told."""
        return self.addresses("target")

    @cached_property
    def speaker(self) -> Words:
        """IP source of the frame."""
        return self.addresses("speaker")

    @cached_property
    def text(self) -> tuple[I64, list[str]]:
        """Host name, vendor class or owner."""
        return self.texts("text")

    @cached_property
    def interface(self) -> tuple[I64, list[str]]:
        """Interface that the claim was seen on."""
        return self.texts("interface")

    def of(self, *claims: int) -> npt.NDArray[np.bool_]:
        """Tell per row whether its claim is one of these."""
        return np.isin(self.claim, claims)
