"""Results as a table and as JSON, like bench/table.c. Knows numbers, not where they come from."""

import json
import os

AT_LEAST = ">="


def _verdict(ratio, target):
    return "met" if ratio >= target else "MISSED"


class Table:
    """Lines of adamd beside a peer; the values are rates, whose ratio should be at least the target."""

    def __init__(self):
        self.lines = []

    def add(self, name, value, unit, peer, peer_value, target=None):
        """Prints a line as soon as it is known. Without a target there is no verdict."""
        if not self.lines:
            print(f"{'what':<50} {'adamd':>10} {'':<5} {'beside':<38} {'':>10} {'ratio':>6}  target")
        ratio = value / peer_value
        goal = "" if target is None else f"  {AT_LEAST} {target:.2f} {_verdict(ratio, target)}"
        print(f"{name:<50} {value:10.4g} {unit:<5} {peer:<38} {peer_value:10.4g} {ratio:6.2f}{goal}", flush=True)
        self.lines.append({"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value,
                           "ratio": ratio, "target": target, "met": None if target is None else ratio >= target})

    def end(self, path):
        """Adds the lines to the array in the file, or makes it; nothing where path is None."""
        if path is None or not self.lines:
            return
        earlier = []
        if os.path.exists(path) and os.path.getsize(path) > 0:
            with open(path, encoding="utf-8") as f:
                earlier = json.load(f)
        with open(path, "w", encoding="utf-8") as f:
            f.write("[" + ",\n ".join(json.dumps(line) for line in earlier + self.lines) + "]\n")
