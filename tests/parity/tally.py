"""Counting what was compared and what differed, and saying where it began."""

import numpy as np


class Tally:
    """Of one configuration, or of all: elements compared, elements and bits that differ, NaNs.

    Any NaN is as good as any other: that there is one is the contract, its bits are not.
    """

    def __init__(self):
        self.elements = self.different = self.bits = self.nans = 0
        self.other = 0  # what is no element: counts, options, refusals
        self.complaints = []

    def add(self, other):
        self.elements += other.elements
        self.different += other.different
        self.bits += other.bits
        self.nans += other.nans
        self.other += other.other
        self.complaints += other.complaints

    @property
    def failed(self):
        return self.different > 0 or self.other > 0

    def arrays(self, where, torch_has, adamd_has):
        """Two arrays of one shape and dtype, to the bit."""
        if adamd_has is None or adamd_has.shape != torch_has.shape or adamd_has.dtype != torch_has.dtype:
            got = "nothing" if adamd_has is None else f"{adamd_has.dtype} {adamd_has.shape}"
            self.complain(f"{where}: torch has {torch_has.dtype} {torch_has.shape}, adamd {got}")
            return
        word = np.uint32 if torch_has.dtype == np.float32 else np.uint64
        left, right = (np.ascontiguousarray(a).reshape(-1) for a in (torch_has, adamd_has))
        self.elements += left.size
        nans = np.isnan(left) & np.isnan(right)
        self.nans += int(nans.sum())
        flipped = np.where(nans, 0, left.view(word) ^ right.view(word)).astype(word)
        at = np.flatnonzero(flipped)
        if not at.size:
            return
        self.different += at.size
        self.bits += int(np.unpackbits(flipped.view(np.uint8)).sum())
        i = at[0]
        self.note(f"{where}: {at.size} of {left.size} elements differ, first [{i}]: torch {left[i]!r} "
                  f"({left.view(word)[i]:x}), adamd {right[i]!r} ({right.view(word)[i]:x})")

    def equal(self, where, torch_has, adamd_has):
        if torch_has != adamd_has:
            self.complain(f"{where}: torch has {torch_has!r}, adamd {adamd_has!r}")

    def close(self, where, true, adamd_has):
        """A norm: which last bit is right depends on the order of additions."""
        true, got = float(true), float(adamd_has)
        # Squares below 1e-308 are lost in double.
        if not (true == got or abs(true - got) <= 1e-13 * abs(true) + 1e-150) and (true == true or got == got):
            self.complain(f"{where}: truly {true!r}, adamd has {got!r}")

    def same_number(self, where, torch_has, adamd_has):
        """Equal, where a NaN equals a NaN."""
        got = float(adamd_has)
        if torch_has != got and (torch_has == torch_has or got == got):
            self.complain(f"{where}: torch has {torch_has!r}, adamd {got!r}")

    def complain(self, text):
        self.other += 1
        self.note(text)

    def note(self, text):
        if len(self.complaints) < 5:
            self.complaints.append(text)
