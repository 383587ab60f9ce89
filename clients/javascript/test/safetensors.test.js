// Tensors and safetensors, there and back.

import assert from "node:assert/strict";
import test from "node:test";
import { FormatError, Tensor, decode, encode } from "adamd";

const header = (file) => {
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  return new TextDecoder().decode(file.subarray(8, 8 + length)).trimEnd();
};

function file(head, data = new Uint8Array(0)) {
  const text = new TextEncoder().encode(head);
  const out = new Uint8Array(8 + text.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  out.set(data, 8 + text.length);
  return out;
}

test("the bytes of a file: header in the order given, widest data first", () => {
  const bits = new Tensor(new Uint16Array([0x3f80]), [1], "bfloat16");
  const made = encode(new Map([
    ["10", bits], ["a", [[1, 2]]], ["2", new Float64Array([3])], ["s", 4],
  ]), { k: "v" });
  assert.equal(header(made), '{"__metadata__":{"k":"v"},' +
    '"10":{"dtype":"BF16","shape":[1],"data_offsets":[20,22]},' +
    '"a":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},' +
    '"2":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},' +
    '"s":{"dtype":"F32","shape":[],"data_offsets":[16,20]}}');
  assert.equal((made.length - 22) % 64, 0);
  const { tensors, metadata } = decode(made);
  assert.deepEqual(metadata, { k: "v" });
  assert.deepEqual(tensors.a.toArray(), [[1, 2]]);
  assert.equal(tensors.s.toArray(), 4);
  assert.deepEqual(tensors["10"].toArray(), [1]);
  assert.equal(tensors.a.data.buffer, made.buffer, "a view");
});

test("data that is not aligned is copied, empty tensors are there", () => {
  const data = new Uint8Array(new Float32Array([1.5]).buffer);
  for (const pad of ["", " ", "  ", "   "]) {
    const made = file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},` +
      `"__proto__":{"dtype":"F64","shape":[0,3],"data_offsets":[4,4]}}${pad}`, data);
    const { tensors } = decode(made.buffer);
    assert.deepEqual(tensors.w.toArray(), [1.5]);
    assert.deepEqual(tensors["__proto__"].shape, [0, 3]);
  }
});

test("what is no such file", () => {
  const one = (entry, size) => file(`{"w":${JSON.stringify(entry)}}`, new Uint8Array(size));
  const entry = { dtype: "F32", shape: [1], data_offsets: [0, 4] };
  assert.ok(decode(one({ ...entry, unknown: 1 }, 4)).tensors.w);
  for (const [bytes, text] of [
    [new Uint8Array(7), /expected at least 8/],
    [file("[]"), /begin with/],
    [file("{"), /not JSON/],
    [one(entry, 3), /3 bytes of data, expected 4/],
    [one(entry, 5), /5 bytes of data, expected 4/],
    [one({ ...entry, dtype: "I64" }, 4), /dtype I64/],
    [one({ ...entry, dtype: "toString" }, 4), /dtype toString/],
    [one({ ...entry, shape: [2] }, 4), /4 bytes, expected 8/],
    [one({ ...entry, shape: [-1] }, 4), /sizes/],
    [one({ ...entry, data_offsets: [1, 5] }, 5), /begins at 1, expected 0/],
    [one(null, 0), /dtype undefined/],
    [file('{"__metadata__":{"a":1}}'), /strings alone/],
  ]) {
    assert.throws(() => decode(bytes), (error) =>
      error instanceof FormatError && text.test(error.message));
  }
});

test("what cannot be sent", () => {
  for (const [tensors, text] of [
    [{ w: [[1], [2, 3]] }, /tensor 'w': nested arrays of unequal length/],
    [{ w: [1, [2]] }, /unequal/],
    [{ w: ["x"] }, /an element is x/],
    [{ w: new Int32Array(1) }, /Int32Array/],
    [{ w: new Uint16Array(1) }, /Uint16Array with dtype/],
    [{ w: null }, /tensor 'w'/],
    [{ w: { data: new Float32Array(3), shape: [2] } }, /3 elements, expected 2/],
    [{ "\ud800": 1 }, /surrogate/],
    [{ __metadata__: 1 }, /named __metadata__/],
  ]) {
    assert.throws(() => encode(tensors), text);
  }
});

test("16-bit types: every value there and back, and rounding once", () => {
  for (const dtype of ["float16", "bfloat16"]) {
    const all = new Tensor(Uint16Array.from({ length: 1 << 16 }, (_, i) => i), undefined, dtype);
    for (const wider of ["float32", "float64"]) {
      const back = all.to(wider).to(dtype);
      all.data.forEach((bits, i) => {
        if (back.data[i] !== bits) {
          const mask = dtype === "float16" ? 0x7c00 : 0x7f80;
          assert.ok((bits & mask) === mask && (bits & ~mask & 0x7fff), `${dtype} ${bits}`);
          assert.ok((back.data[i] & ~mask & 0x7fff) !== 0, "NaN stays one");
        }
      });
    }
  }
  const bits = (x, dtype, type = Float64Array) => new Tensor(new type([x])).to(dtype).data[0];
  assert.equal(bits(65519.99, "float16"), 0x7bff);
  assert.equal(bits(65520, "float16"), 0x7c00);
  assert.equal(bits(-Infinity, "float16"), 0xfc00);
  assert.equal(bits(2 ** -25, "float16"), 0);
  assert.equal(bits(2 ** -25 * 1.0000001, "float16"), 1);
  assert.equal(bits(1 + 2 ** -11, "float16"), 0x3c00, "ties to even");
  assert.equal(bits(1 + 2 ** -11 + 2 ** -40, "float16"), 0x3c01, "not by way of float32");
  assert.equal(bits(1 + 2 ** -8, "bfloat16"), 0x3f80);
  assert.equal(bits(1 + 2 ** -8 + 2 ** -40, "bfloat16"), 0x3f81);
  assert.equal(bits(3.4e38, "bfloat16", Float32Array), 0x7f80);
  assert.equal(bits(3.4e38, "bfloat16"), 0x7f80);
  assert.equal(bits(1e-40, "bfloat16"), bits(1e-40, "bfloat16", Float32Array));
  assert.equal(bits(-0, "bfloat16"), 0x8000);
});
