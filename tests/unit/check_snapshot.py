"""check_snapshot.py TEST_SNAPSHOT: a snapshot is what docs/persistence.md says, to a reader that shares
no code with the server: the Python client's, and where it is installed, the safetensors library."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python" / "src"))

from adamd import _safetensors  # noqa: E402

PROGRAM = sys.argv.pop(1)
BEGIN = b'{"__metadata__":{"format":"adamd","header_crc32c":"'


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return f"{crc ^ 0xFFFFFFFF:08x}"


class Snapshot(unittest.TestCase):
    def setUp(self):
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            out = subprocess.run([PROGRAM, directory], check=True, capture_output=True, text=True)
            self.path, self.digest = out.stdout.split()
            self.data = Path(self.path).read_bytes()

    def test_bytes(self):
        length = int.from_bytes(self.data[:8], "little")
        header = bytearray(self.data[: 8 + length])
        at = 8 + len(BEGIN)
        self.assertEqual(bytes(header[8:at]), BEGIN)
        said = header[at : at + 8].decode()
        header[at : at + 8] = b"00000000"
        self.assertEqual(said, crc32c(header))
        self.assertEqual((8 + length) % 64, 0)
        entries = json.loads(header[8:])
        metadata = entries.pop("__metadata__")
        self.assertEqual(list(metadata), ["format", "header_crc32c", "state_dict", "adamd_snapshot"])
        about = json.loads(metadata["adamd_snapshot"])
        self.assertEqual(about["version"], 1)
        self.assertEqual(Path(self.path).name, f"{about['id']}-{about['lsn']}.safetensors")
        self.assertEqual(list(about["checksums"]), list(entries))
        for name, entry in entries.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            self.assertEqual(about["checksums"][name], crc32c(self.data[begin:end]), name)

    def test_client(self):
        tensors, metadata = _safetensors.decode(self.data)
        steps = json.loads(metadata["state_dict"])["steps"]
        self.assertEqual({"params/" + name for name in steps},
                         {name for name in tensors if name.startswith("params/")})

    def test_library(self):
        try:
            from safetensors.numpy import load
        except ImportError:
            self.skipTest("safetensors is not installed")
        ours, _ = _safetensors.decode(self.data)
        theirs = load(self.data)
        self.assertEqual(set(ours), set(theirs))
        for name, tensor in ours.items():
            self.assertEqual(tensor.tobytes(), theirs[name].tobytes(), name)
            self.assertEqual(tensor.dtype, theirs[name].dtype)


if __name__ == "__main__":
    unittest.main()
