// A typed array with a shape and a type. Knows neither safetensors nor HTTP.

import { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from "./half.js";

export const ARRAYS = {
  float32: Float32Array, float64: Float64Array, bfloat16: Uint16Array, float16: Uint16Array,
};

/** The type that an array's kind stands for; a Uint16Array may be of two, and says nothing. */
function kindOf(data) {
  const name = Object.prototype.toString.call(data).slice(8, -1);
  return { Float32Array: "float32", Float64Array: "float64", Float16Array: "float16" }[name];
}

function count(shape) {
  return shape.reduce((all, size) => all * size, 1);
}

/** `flat` as nested arrays of `shape`. */
function nest(flat, shape, at = 0) {
  if (!shape.length) {
    return flat[at];
  }
  const [size, ...rest] = shape;
  const width = count(rest);
  return Array.from({ length: size }, (_, i) => nest(flat, rest, at + i * width));
}

/** The shape of nested arrays; a tensor's constructor and flatten() find what is not regular. */
function shapeOf(nested) {
  const shape = [];
  for (; Array.isArray(nested); nested = nested[0]) {
    shape.push(nested.length);
  }
  return shape;
}

function flatten(nested, shape, out, depth = 0) {
  const isArray = Array.isArray(nested);
  if (depth < shape.length ? !isArray || nested.length !== shape[depth] : isArray) {
    throw new TypeError(`nested arrays of unequal length, expected the shape [${shape}] all over`);
  }
  if (isArray) {
    nested.forEach((inner) => flatten(inner, shape, out, depth + 1));
  } else {
    const value = typeof nested === "string" ? WORDS[nested] : nested;
    if (typeof value !== "number") {
      throw new TypeError(`an element is ${String(nested)}, expected a number`);
    }
    out.push(value);
  }
  return out;
}

/** JSON has words for numbers that are not finite. */
export const WORDS = { NaN, Infinity, "-Infinity": -Infinity };

export class Tensor {
  constructor(data, shape = [data.length], dtype = kindOf(data)) {
    const kind = kindOf(data);
    const fits = kind ? kind === dtype
      : data instanceof Uint16Array && ARRAYS[dtype] === Uint16Array;
    if (!fits) {
      throw new TypeError(`data is a ${data?.constructor?.name} and dtype ${dtype}, expected ` +
        "a Float32Array, a Float64Array, or a Uint16Array with dtype 'bfloat16' or 'float16'");
    }
    if (!Array.isArray(shape) || !shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
      throw new TypeError(`shape is ${JSON.stringify(shape)}, expected an array of sizes`);
    }
    if (count(shape) !== data.length) {
      throw new RangeError(`${data.length} elements, expected ${count(shape)} of [${shape}]`);
    }
    this.data = data;
    this.shape = shape;
    this.dtype = dtype;
  }

  /** Of what may stand for a tensor: one, a typed array, a number, nested arrays of numbers, or an
   * object of data, shape and dtype. `what` names it in errors. */
  static from(value, dtype, what = "the tensor") {
    try {
      if (value instanceof Tensor) {
        return dtype ? value.to(dtype) : value;
      }
      if (typeof value === "number" || Array.isArray(value)) {
        const shape = shapeOf(value);
        const numbers = Float64Array.from(flatten(value, shape, []));
        return new Tensor(numbers, shape).to(dtype ?? "float32");
      }
      const made = ArrayBuffer.isView(value)
        ? new Tensor(value) : new Tensor(value.data, value.shape, value.dtype);
      return dtype ? made.to(dtype) : made;
    } catch (error) {
      error.message = `${what}: ${error.message}`;
      throw error;
    }
  }

  get size() {
    return this.data.length;
  }

  /** The bytes of the data, not copied. */
  get bytes() {
    return new Uint8Array(this.data.buffer, this.data.byteOffset, this.data.byteLength);
  }

  /** The same numbers in another type, rounded once; itself where it is of that type. */
  to(dtype) {
    if (dtype === this.dtype) {
      return this;
    }
    if (!ARRAYS[dtype]) {
      throw new TypeError(`dtype is ${dtype}, expected float32, float64, bfloat16 or float16`);
    }
    const wide = this.#numbers();
    const data = { bfloat16: toBfloat16, float16: toFloat16 }[dtype]?.(wide) ??
      new ARRAYS[dtype](wide);
    return new Tensor(data, this.shape, dtype);
  }

  /** As nested arrays of numbers; a scalar as a number. */
  toArray() {
    return nest(this.#numbers(), this.shape);
  }

  #numbers() {
    if (!(this.data instanceof Uint16Array)) {
      return this.data;
    }
    return this.dtype === "bfloat16" ? fromBfloat16(this.data) : fromFloat16(this.data);
  }
}
