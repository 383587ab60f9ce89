// Server-sent events, taken apart; and the numbers in records of steps. Knows no connections.

import { ProtocolError } from "./errors.js";
import { WORDS } from "./tensor.js";

const NORMS = ["grad_norm", "param_norm", "update_norm", "clip_coef"];

/** A record of a step, its norms as numbers: JSON has words for those that are not finite. */
export function withNumbers(record) {
  for (const holder of [record, ...(record.param_groups ?? [])]) {
    for (const name of NORMS) {
      if (typeof holder[name] === "string") {
        holder[name] = WORDS[holder[name]];
      }
    }
  }
  return record;
}

async function* lines(pieces, limit) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of pieces) {
    const found = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = found.pop();
    for (const line of found) {
      yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
    if (rest.length > limit) {
      throw new ProtocolError(`an event over the limit of ${limit} bytes`);
    }
  }
}

/** The events in a stream; comments and what else is not an event are passed over. What is cut off
 * at the end is no event. */
export async function* parse(pieces, limit) {
  let fields = {};
  for await (const line of lines(pieces, limit)) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    if (name) {
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      fields[name] = name === "data" && "data" in fields ? `${fields.data}\n${value}` : value;
    } else if (!line) {
      if ("data" in fields) {
        yield event(fields);
      }
      fields = {};
    }
  }
}

function event(fields) {
  try {
    const id = "id" in fields ? Number(fields.id) : null;
    if (id !== null && !Number.isSafeInteger(id)) {
      throw new Error("its id is not a step");
    }
    return { name: fields.event ?? "message", id, data: withNumbers(JSON.parse(fields.data)) };
  } catch (error) {
    throw new ProtocolError(`an event that cannot be read: ${error.message}: ` +
      JSON.stringify(fields));
  }
}
