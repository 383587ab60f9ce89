// What a step did, out of its reply.

import { ProtocolError } from "./errors.js";
import { withNumbers } from "./events.js";

const NUMBERS = ["grad_norm", "param_norm", "update_norm", "clip_coef", "converted"];

function read(said, name, convert) {
  const value = typeof said[name] === "string" ? convert(said[name]) : undefined;
  if (value === undefined) {
    throw new ProtocolError(`the reply to a step has ${name} '${said[name]}' in its metadata`);
  }
  return value;
}

const truth = (text) => ({ true: true, false: false })[text];

function groupsOf(text) {
  try {
    return JSON.parse(text).map(withNumbers);
  } catch {
    return undefined;
  }
}

/** Of a reply with tensors and metadata, or, without these, of a minimal one. */
export function results(version, { status, headers }, tensors = null, said = null) {
  const replayed = headers.get("Idempotent-Replayed")?.toLowerCase() === "true";
  const held = status === 202;
  if (!said) {
    return { ...version, params: null, stats: null, pending: held ? 1 : 0, replayed };
  }
  const numbers = NUMBERS.map((name) => [name, read(said, name, Number)]);
  return {
    step: read(said, "step", Number),
    etag: version.etag,
    params: tensors,
    stats: {
      ...Object.fromEntries(numbers),
      skipped: read(said, "skipped", truth),
      param_groups: read(said, "param_groups", groupsOf),
    },
    pending: Number(said.pending ?? 0),
    replayed,
  };
}
