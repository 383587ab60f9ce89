// The 16-bit types, which JavaScript may not have: their bits, to and from float32 and float64.
// Rounded once, to the nearest, ties to even; NaN stays one.

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer); // little-endian; safetensors.js sees to that

const BFLOAT16 = { fraction: 7, bias: 127 };
const FLOAT16 = { fraction: 10, bias: 15 };

/** To a whole number. Exact, in float64. */
function whole(x) {
  const down = Math.floor(x);
  const over = x - down;
  return over > 0.5 || (over === 0.5 && down % 2 === 1) ? down + 1 : down;
}

/** The bits of one number. A carry out of the fraction moves into the exponent by itself. */
function round(x, { fraction, bias }) {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const infinity = (2 * bias + 1) << fraction;
  if (Number.isNaN(x)) {
    return infinity | (1 << (fraction - 1));
  }
  double[0] = Math.abs(x);
  const exponent = (words[1] >>> 20) - 1023;
  if (exponent > bias) {
    return sign | infinity;
  }
  if (exponent < 1 - bias) {
    return sign | whole(double[0] * 2 ** (bias - 1 + fraction));
  }
  const rest = whole((double[0] / 2 ** exponent - 1) * 2 ** fraction);
  return sign | (((exponent + bias) << fraction) + rest);
}

function roundAll(values, format) {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    out[i] = round(values[i], format);
  }
  return out;
}

export function toFloat16(values) {
  return roundAll(values, FLOAT16);
}

/** A float32 has the exponent of bfloat16, so that its bits can be rounded as a whole number. */
export function toBfloat16(values) {
  if (!(values instanceof Float32Array)) {
    return roundAll(values, BFLOAT16);
  }
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(bits.length);
  for (let i = 0; i < out.length; i++) {
    const b = bits[i];
    const isNaN = (b & 0x7fffffff) > 0x7f800000;
    out[i] = isNaN ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return out;
}

export function fromBfloat16(halves) {
  const out = new Uint32Array(halves.length);
  for (let i = 0; i < out.length; i++) {
    out[i] = halves[i] << 16;
  }
  return new Float32Array(out.buffer);
}

function wide(half) {
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) {
    return fraction ? NaN : Infinity;
  }
  return exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
}

export function fromFloat16(halves) {
  const out = new Float32Array(halves.length);
  for (let i = 0; i < out.length; i++) {
    out[i] = halves[i] & 0x8000 ? -wide(halves[i]) : wide(halves[i]);
  }
  return out;
}
