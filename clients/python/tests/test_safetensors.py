"""The safetensors module alone."""

import json
import unittest
from unittest import mock

import support  # noqa: F401  (sets the path)
import numpy as np
from adamd import _safetensors as st


def file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


class Encode(unittest.TestCase):
    def test_round_trip(self) -> None:
        tensors = {
            "scalar": np.float32(3),
            "empty": np.zeros((0, 3)),
            'a "b" \\ \x01 \u00e9\U0001f600': np.arange(6, dtype="<f8").reshape(2, 3),
            "transposed": np.arange(6, dtype="<f4").reshape(2, 3).T,
            "big-endian": np.arange(3, dtype=">f4"),
            "strided": np.arange(10, dtype="<f4")[::3],
            "half": np.array([1.5, -2], ">f2"),
            "nan": np.array([np.nan, np.inf, -0.0], "<f4"),
        }
        encoded = st.encode(tensors, {"k": "v"})
        data = b"".join(bytes(part) for part in encoded.parts)
        self.assertEqual(len(data), encoded.length)
        header = int.from_bytes(data[:8], "little")
        self.assertEqual((8 + header) % 64, 0)
        self.assertEqual(data[8 : 8 + header].rstrip(b" ")[-1:], b"}")
        back, metadata = st.decode(bytearray(data))
        self.assertEqual(metadata, {"k": "v"})
        self.assertEqual(list(back), list(tensors))
        for name, value in tensors.items():
            value = np.asarray(value)
            self.assertEqual(back[name].shape, value.shape)
            self.assertEqual(back[name].tobytes(), value.astype(back[name].dtype).tobytes())
            self.assertTrue(back[name].flags.writeable and back[name].flags.aligned)

    def test_copies_nothing(self) -> None:
        array = np.zeros(4, "<f4")
        part = st.encode({"a": array}).parts[1]
        array[0] = 1
        self.assertEqual(bytes(part), array.tobytes())
        text = json.dumps({"a": entry()}).encode()
        text += b" " * (-(8 + len(text)) % 64)
        buffer = bytearray(file(text, bytes(8)))
        st.decode(buffer)[0]["a"][0] = 1
        self.assertEqual(buffer[-8:], np.array([1, 0], "<f4").tobytes())

    def test_refuses(self) -> None:
        for value in (np.zeros(2, np.int64), np.zeros(2, np.uint16), [1, 2], "x"):
            with self.assertRaisesRegex(
                TypeError, "expected float32, float64, float16 or bfloat16"
            ):
                st.encode({"a": value})
        with self.assertRaises(TypeError):
            st.encode({1: np.zeros(2)})
        with self.assertRaises(ValueError):
            st.encode({"__metadata__": np.zeros(2)})


class Decode(unittest.TestCase):
    def test_unaligned_is_copied(self) -> None:
        header = {"a": entry(shape=[1], offsets=[0, 4]), "b": entry("F64", [1], [4, 12])}
        text = json.dumps(header).encode()
        text += b" " * (-(8 + len(text)) % 64)
        data = np.float32(1).tobytes() + np.float64(2).tobytes()
        back, _ = st.decode(bytearray(file(text, data)))
        self.assertEqual((back["a"][0], back["b"][0]), (1, 2))
        self.assertTrue(back["b"].flags.aligned)

    def test_bfloat16(self) -> None:
        """Arrays of ml_dtypes where it is installed, float32 of the same values elsewhere."""
        header = {"a": entry("BF16", [3], [0, 6]), "e": entry("BF16", [0], [6, 6])}
        bits = np.array([0x3F80, 0xC020, 0x7F80], "<u2")  # 1, -2.5, infinity
        for package in {st.ml_dtypes, None}:
            with self.subTest(package), mock.patch.object(st, "ml_dtypes", package):
                back, _ = st.decode(bytearray(file(header, bits.tobytes())))
            name = "float32" if package is None else "bfloat16"
            self.assertEqual((back["a"].dtype.name, back["e"].dtype.name), (name, name))
            self.assertEqual(back["a"].astype(np.float64).tolist(), [1, -2.5, np.inf])
            if package is not None:
                self.assertEqual(bytes(st.encode({"a": back["a"]}).parts[1]), bits.tobytes())
                self.assertIn(b'"BF16"', st.encode({"a": back["a"].reshape(3, 1)}).parts[0])

    def test_refuses(self) -> None:
        good = file({"a": entry()}, bytes(8))
        self.assertEqual(st.decode(good)[0]["a"].shape, (2,))
        cases = {
            "expected at least 8": b"1234567",
            "a header of 99 bytes": (99).to_bytes(8, "little") + b"{}",
            "does not begin": file(b" {}"),
            "not JSON": file(b"{"),
            "stands twice": file(
                b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
                b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
            ),
            "NaN in the header": file(b'{"a":NaN}'),
            "alone": file({"a": {**entry(), "more": 1}}, bytes(8)),
            "expected strings": file({"__metadata__": {"a": 1}}),
            "expected F32, F64, F16, BF16": file({"a": entry("I32")}, bytes(8)),
            "a list of sizes": file({"a": entry(shape=[True, 2])}, bytes(8)),
            "list of sizes": file({"a": entry(shape=[-2])}, bytes(8)),
            "expected two": file({"a": entry(offsets=[0])}, bytes(8)),
            "do not hold": file({"a": entry(offsets=[0, 4])}, bytes(8)),
            "8 bytes do not hold": file({"a": entry(shape=[2**40, 2**40])}, bytes(8)),
            "expected 0": file({"a": entry(offsets=[4, 12])}, bytes(12)),
            "9 bytes of data, expected 8": file({"a": entry()}, bytes(9)),
            "7 bytes of data, expected 8": file({"a": entry()}, bytes(7)),
        }
        for message, data in cases.items():
            with self.subTest(message), self.assertRaisesRegex(st.FormatError, message):
                st.decode(data)
        for cut in range(len(good)):
            with self.assertRaises(st.FormatError):
                st.decode(good[:cut])


if __name__ == "__main__":
    unittest.main()
