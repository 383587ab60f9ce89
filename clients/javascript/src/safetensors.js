// Safetensors, both ways. Data is not copied: encoding gives views of the tensors, decoding gives
// views of the one buffer that was received. Knows no HTTP.

import { FormatError } from "./errors.js";
import { ARRAYS, Tensor } from "./tensor.js";

export const MAX_HEADER = 100_000_000; // bytes, as the reference implementation has it
const ALIGNMENT = 64;
const CODES = { float32: "F32", float64: "F64", bfloat16: "BF16", float16: "F16" };
const DTYPES = Object.fromEntries(Object.entries(CODES).map(([name, code]) => [code, name]));

if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) {
  throw new Error("adamd: this machine is big-endian; safetensors, and this package, are not");
}

/** A string that UTF-8 can carry. */
export function utf8(what, text) {
  try {
    encodeURIComponent(text);
  } catch {
    throw new TypeError(`${what} ${JSON.stringify(text)} holds half a surrogate pair`);
  }
  return text;
}

/** The entries of a Map or of an object, in order. */
export function entriesOf(tensors) {
  return tensors instanceof Map ? [...tensors] : Object.entries(tensors);
}

function gather(tensors) {
  return entriesOf(tensors).map(([name, value]) => {
    if (typeof name !== "string" || name === "__metadata__") {
      throw new TypeError(`a tensor cannot be named ${String(name)}`);
    }
    utf8("the tensor name", name);
    return { name, tensor: Tensor.from(value, undefined, `tensor '${name}'`), at: 0 };
  });
}

/** A file in parts, in the order in which they are sent. The header's order is that of `tensors`;
 * the data of the widest stands first, so that each begins at a multiple of its element size. */
export function encodeParts(tensors, metadata) {
  const entries = gather(tensors);
  const width = ({ tensor }) => tensor.data.BYTES_PER_ELEMENT;
  const order = [...entries].sort((a, b) => width(b) - width(a)); // stable
  let length = 0;
  for (const entry of order) {
    entry.at = length;
    length += entry.tensor.data.byteLength;
  }
  // Joined by hand: an object would put names like "10" first.
  const members = entries.map(({ name, tensor, at }) => JSON.stringify(name) + ":" +
    JSON.stringify({
      dtype: CODES[tensor.dtype],
      shape: tensor.shape,
      data_offsets: [at, at + tensor.data.byteLength],
    }));
  if (metadata && Object.keys(metadata).length) {
    Object.values(metadata).forEach((text) => utf8("the metadata", text));
    members.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  }
  const head = withLength(new TextEncoder().encode(`{${members.join(",")}}`));
  const parts = [head, ...order.map(({ tensor }) => tensor.bytes).filter((part) => part.length)];
  return { parts, length: head.length + length };
}

function withLength(text) {
  const size = 8 + text.length;
  const head = new Uint8Array(size + (ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT).fill(32);
  if (head.length - 8 > MAX_HEADER) {
    throw new RangeError(`the header takes ${text.length} bytes, expected at most ${MAX_HEADER}`);
  }
  new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true);
  head.set(text, 8);
  return head;
}

/** Parts in one piece. */
export function concat(parts, length) {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A file in one piece. */
export function encode(tensors, metadata) {
  const { parts, length } = encodeParts(tensors, metadata);
  return concat(parts, length);
}

function readHeader(bytes) {
  if (bytes.length < 8) {
    throw new FormatError(`safetensors: ${bytes.length} bytes, expected at least 8`);
  }
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  if (length > MAX_HEADER || length > bytes.length - 8) {
    throw new FormatError(`safetensors: a header of ${length} bytes in a file of ${bytes.length}`);
  }
  const text = bytes.subarray(8, 8 + length);
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
  } catch (error) {
    throw new FormatError(`safetensors: the header is not JSON: ${error.message}`);
  }
  if (text[0] !== 0x7b) {
    throw new FormatError("safetensors: the header does not begin with '{'");
  }
  return { header, start: 8 + length };
}

const isCounts = (value) =>
  Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);

/** What a header says of one tensor, checked; members that are not known are passed over. */
function readEntry(name, said) {
  const wrong = (text) => new FormatError(`safetensors: tensor '${name}' ${text}`);
  const dtype = Object.hasOwn(DTYPES, said?.dtype) ? DTYPES[said.dtype] : undefined;
  if (!dtype) {
    throw wrong(`has dtype ${said?.dtype}, expected ${Object.keys(DTYPES).join(", ")}`);
  }
  const { shape, data_offsets: offsets } = said;
  if (!isCounts(shape) || !isCounts(offsets) || offsets.length !== 2) {
    throw wrong(`has shape ${JSON.stringify(shape)} and data_offsets ${JSON.stringify(offsets)}, ` +
      "expected an array of sizes and two offsets");
  }
  const [begin, end] = offsets;
  const wanted = shape.reduce((all, n) => all * n, ARRAYS[dtype].BYTES_PER_ELEMENT);
  if (end - begin !== wanted) {
    throw wrong(`has ${end - begin} bytes, expected ${wanted} for [${shape}] of ${dtype}`);
  }
  return { name, dtype, shape, begin, end };
}

function checkCovered(entries, length) {
  let at = 0;
  const order = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  for (const { name, begin, end } of order) {
    if (begin !== at) {
      throw new FormatError(`safetensors: tensor '${name}' begins at ${begin}, expected ${at}`);
    }
    at = end;
  }
  if (at !== length) {
    throw new FormatError(`safetensors: ${length} bytes of data, expected ${at}`);
  }
}

/** The tensors, as views of `bytes` (copied only where the data does not begin at a multiple of
 * its element size), and the metadata. */
export function decode(bytes) {
  if (!(bytes instanceof Uint8Array)) {
    bytes = ArrayBuffer.isView(bytes)
      ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
  }
  const { header, start } = readHeader(bytes);
  const { __metadata__: metadata = {}, ...rest } = header;
  if (typeof metadata !== "object" || metadata === null ||
      !Object.values(metadata).every((text) => typeof text === "string")) {
    throw new FormatError("safetensors: __metadata__: expected strings alone");
  }
  const entries = Object.entries(rest).map(([name, said]) => readEntry(name, said));
  checkCovered(entries, bytes.length - start);
  const tensors = Object.create(null); // a parameter may be named "__proto__"
  for (const { name, dtype, shape, begin, end } of entries) {
    const Kind = ARRAYS[dtype];
    const width = Kind.BYTES_PER_ELEMENT;
    const at = bytes.byteOffset + start + begin;
    const data = at % width === 0
      ? new Kind(bytes.buffer, at, (end - begin) / width)
      : new Kind(bytes.slice(start + begin, start + end).buffer);
    tensors[name] = new Tensor(data, shape, dtype);
  }
  return { tensors, metadata };
}
