// The body of a request, as fetch takes it.

import { concat } from "./safetensors.js";

const PIECE = 1 << 20;
const SMALL = 1 << 16;

const isNode = typeof process === "object" && process.release?.name === "node" &&
  typeof Deno === "undefined" && typeof Bun === "undefined";

/** Cuts what is large and joins what is small, so that a chunk of a stream is about a piece. */
function* chunks(parts) {
  let small = [];
  let size = 0;
  for (const part of parts) {
    if (part.length < SMALL) {
      small.push(part);
      size += part.length;
    }
    if (size && (part.length >= SMALL || size >= PIECE)) {
      yield concat(small, size);
      small = [];
      size = 0;
    }
    for (let at = 0; part.length >= SMALL && at < part.length; at += PIECE) {
      yield part.subarray(at, at + PIECE);
    }
  }
  if (size) {
    yield concat(small, size);
  }
}

/** A body for fetch. Node streams the parts as they are, and can say their length beside a stream;
 * browsers cannot, and gather them in a Blob. What is small is faster in one array. */
export function bodyOf({ parts, length }) {
  if (length < SMALL) {
    return { body: concat(parts, length), headers: {} };
  }
  if (!isNode) {
    return { body: new Blob(parts), headers: {} };
  }
  const source = chunks(parts);
  const body = new ReadableStream({
    pull(controller) {
      const { value, done } = source.next();
      if (done) {
        controller.close();
      } else {
        controller.enqueue(value);
      }
    },
  }, { highWaterMark: 0 });
  return { body, duplex: "half", headers: { "Content-Length": String(length) } };
}
