"""The README's first example, run as it stands but for the address; and that the conformance cases
have every code that the server can answer with."""

import json
import re
import unittest
from pathlib import Path

from support import ServerCase

CLIENT = Path(__file__).resolve().parents[1]


class Readme(ServerCase):
    def test_example(self) -> None:
        text = (CLIENT / "README.md").read_text(encoding="utf-8")
        example = text.split("```python\n")[1].split("```")[0]
        self.assertLessEqual(len(example.strip().splitlines()), 10)
        names: dict = {}
        exec(example.replace("http://127.0.0.1:2326", self.server.url), names)
        self.assertLess(names["loss"], 0.01)


class Codes(unittest.TestCase):
    def test_every_code_has_its_case(self) -> None:
        root = CLIENT.parents[1]
        header = (root / "server" / "problem.h").read_text(encoding="utf-8")
        problems = root / "clients" / "conformance" / "problems.json"
        cases = json.loads(problems.read_text(encoding="utf-8"))
        codes = {row["code"] for case in cases for row in case["each"]}
        self.assertEqual(set(re.findall(r'X\(\w+,\s*"([a-z-]+)"', header)), codes)


if __name__ == "__main__":
    unittest.main()
