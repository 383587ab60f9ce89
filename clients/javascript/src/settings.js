// Arguments as requests carry them.

import { utf8 } from "./safetensors.js";

const WIRE = { float32: "f32", float64: "f64", bfloat16: "bf16", float16: "f16" };
const UNLIMITED = ["max_grad_norm", "clip_value"];

/** JSON.stringify makes null of a number that is not finite, which says something else. */
export function json(value) {
  return JSON.stringify(value, (name, inner) => {
    if (typeof inner === "number" && !Number.isFinite(inner)) {
      throw new RangeError(`${name} is ${inner}, expected a finite number`);
    }
    return inner;
  });
}

/** Settings as JSON has them: infinity is no limit (null), and "inf" as a kind of norm. */
export function forJson(settings) {
  const sent = { ...settings };
  for (const name of UNLIMITED.filter((each) => sent[each] === Infinity)) {
    sent[name] = null;
  }
  if (sent.norm_type === Infinity) {
    sent.norm_type = "inf";
  }
  return sent;
}

/** The same as texts, without those that are not given. */
export function forMetadata(settings) {
  const given = Object.entries(forJson(settings)).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([name, value]) =>
    [name, typeof value === "string" ? value : json(value)]));
}

export function wireDtype(dtype) {
  if (dtype !== undefined && !Object.hasOwn(WIRE, dtype)) {
    throw new TypeError(`dtype is ${dtype}, expected float32, float64, bfloat16 or float16`);
  }
  return WIRE[dtype];
}

/** Dots alone mean "here" and "above" to the URLs of fetch, as %2E too: there is no path with them
 * as a name. */
export const isDots = (name) => name === "." || name === "..";

/** A name as one segment of a path. */
export function segment(name) {
  if (typeof name !== "string" || isDots(name)) {
    throw new TypeError(`the name ${String(name)} cannot stand in a URL, expected another string`);
  }
  return encodeURIComponent(utf8("the name", name));
}

/** "?a=1&b=2" of what is given. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  given.forEach(([name, value]) => utf8(name, String(value)));
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** A value that a header is sure to carry. */
export function visible(what, value) {
  if (!/^[\x21-\x7e]+$/.test(value)) {
    throw new TypeError(`${what} is '${value}', expected visible ASCII characters`);
  }
  return String(value);
}

function number(what, value, fits, expected) {
  if (typeof value !== "number" || !fits(value)) {
    throw new TypeError(`${what} is ${String(value)}, expected ${expected}`);
  }
  return String(value);
}

/** A count, up to 2^53. */
export const wholeNumber = (what, value) =>
  number(what, value, (n) => Number.isInteger(n) && n <= 2 ** 53, "a whole number");
export const finite = (what, value) => number(what, value, Number.isFinite, "a finite number");

/** A param group, whose `params` may be a RegExp. */
export function newGroup(group) {
  if (!(group.params instanceof RegExp)) {
    return group;
  }
  const { source, flags } = group.params;
  if (flags.replace("u", "")) {
    throw new TypeError(`params is ${group.params}: flags cannot be sent beside a pattern; write ` +
      'it as PCRE2 has it, {regex: "(?i)..."}');
  }
  return { ...group, params: { regex: source } };
}

/** 128 random bits in hex. Node 18 has no global crypto. */
export async function randomKey() {
  const crypto = globalThis.crypto ?? (await import("node:crypto")).webcrypto;
  const bits = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bits, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
