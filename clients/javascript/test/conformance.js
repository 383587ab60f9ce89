// The driver of clients/conformance for this client: calls as lines of JSON in, what they gave as
// lines of JSON out.

import { createInterface } from "node:readline";
import { Client, ConnectionError, AdamdError, RequestError, Tensor } from "adamd";

const DTYPES = { f32: "float32", f64: "float64", bf16: "bfloat16", f16: "float16" };
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, bfloat16: Uint16Array, float16: Uint16Array,
};
const GRADIENTS = ["grad_scale", "nonfinite", "max_grad_norm", "norm_type", "error_if_nonfinite",
  "clip_value"];

// The options that each call has; those of a creation are the server's to know.
const OPTIONS = {
  step: ["key", "worker", "weight", "based_on", "if_match", "minimal", "dtype", "param_groups",
    ...GRADIENTS],
  params: ["dtype", "wait", "if_none_match"],
  param: ["param", "dtype"],
  events: ["last_event_id", "take"],
  configure: ["changes"],
  param_groups: ["data"],
  add_param_group: ["group"],
  patch_param_group: ["index", "changes"],
  state: ["param", "data"],
  put_state_dict: ["load"],
  history: ["last"],
  changes: ["last"],
  remove_worker: ["worker"],
  rollback: ["step"],
  fork: ["name", "step"],
  list: ["prefix", "page"],
  client: ["url", "retries", "timeout_ms", "deadline_ms"],
};

/** What this client does not have of a call. */
function unknown({ op, options = {} }) {
  if (op !== "client" && !(op in SERVER) && !(op in OPTIMIZER)) {
    return op;
  }
  const known = op === "create" ? Object.keys(options) : OPTIONS[op] ?? [];
  return Object.keys(options).find((name) => !known.includes(name));
}

function tensor({ dtype, shape, hex }) {
  const bytes = Uint8Array.from(Buffer.from(hex, "hex"));
  return new Tensor(new ARRAYS[dtype](bytes.buffer), shape, dtype);
}

function tensors(wires) {
  return new Map(Object.entries(wires ?? {}).map(([name, wire]) => [name, tensor(wire)]));
}

function wire({ dtype, shape, bytes }) {
  return { dtype, shape, hex: Buffer.from(bytes).toString("hex") };
}

function wires(found) {
  return found && Object.fromEntries(Object.entries(found).map(([name, t]) => [name, wire(t)]));
}

/** The protocol's words for numbers that are not finite, and tensors as lists. */
function plain(name, value) {
  if (typeof value === "number" && !Number.isFinite(value)) {
    return String(value);
  }
  return value instanceof Tensor ? value.toArray() : value;
}

function stepOptions(options) {
  const { key, based_on: basedOn, if_match: ifMatch, param_groups: paramGroups, dtype, ...rest } =
    options;
  const settings = {};
  for (const name of GRADIENTS.filter((each) => each in rest)) {
    settings[name] = rest[name];
    delete rest[name];
  }
  return { idempotencyKey: key, basedOn, ifMatch, paramGroups, dtype: DTYPES[dtype], settings,
    ...rest };
}

async function step(opt, { grads, options = {} }) {
  const { params, stats, ...result } = await opt.step(tensors(grads), stepOptions(options));
  return { ...result, ...stats, params: wires(params) };
}

async function params(opt, { options = {} }) {
  const { dtype, wait, if_none_match: ifNoneMatch } = options;
  const found = await opt.params({ dtype: DTYPES[dtype], wait, ifNoneMatch });
  return found ? { ...found, params: wires(found.params) } : { not_modified: true };
}

async function events(opt, { options }) {
  const found = [];
  for await (const event of await opt.events({ lastEventId: options.last_event_id })) {
    found.push(event);
    if (found.length === options.take) {
      break;
    }
  }
  return { events: found };
}

const nothing = async (promise) => {
  await promise;
  return {};
};
const as = async (name, promise) => ({ [name]: await promise });

const OPTIMIZER = {
  step,
  params,
  events,
  create: (opt, call) => as("summary", opt.create(tensors(call.params), call.options)),
  summary: (opt) => as("summary", opt.summary()),
  configure: (opt, { options }) => as("summary", opt.configure(options.changes)),
  delete: (opt) => nothing(opt.delete()),
  param: async (opt, { options: { param, dtype } }) =>
    ({ tensor: wire(await opt.param(param, { dtype: DTYPES[dtype] })) }),
  put_params: (opt, call) => nothing(opt.putParams(tensors(call.params))),
  param_groups: (opt, { options }) => as("param_groups", opt.paramGroups(options)),
  add_param_group: (opt, call) =>
    nothing(opt.addParamGroup(tensors(call.params), call.options.group)),
  patch_param_group: (opt, { options: { index, changes } }) =>
    as("group", opt.patchParamGroup(index, changes)),
  state: (opt, { options: { param, data } }) => as("state", opt.state(param, { data })),
  state_dict: async (opt) => ({ file: Buffer.from(await opt.stateDict()).toString("hex") }),
  put_state_dict: (opt, { file, options: { load } }) =>
    nothing(opt.loadStateDict(new Uint8Array(Buffer.from(file, "hex")), { load })),
  digest: (opt) => as("digest", opt.digest()),
  history: (opt, { options }) => as("history", opt.history(options)),
  changes: (opt, { options }) => as("changes", opt.changes(options)),
  workers: (opt) => opt.workers(), // {workers, gone}
  remove_worker: (opt, { options }) => nothing(opt.removeWorker(options.worker)),
  round: (opt) => as("round", opt.round()),
  drop_round: (opt) => nothing(opt.dropRound()),
  snapshot: (opt) => opt.snapshot(),
  rollback: (opt, { options }) => as("summary", opt.rollback(options.step)),
  fork: (opt, { options: { name, step: at } }) => as("summary", opt.fork(name, { step: at })),
};

const SERVER = {
  list: (client, { prefix, page }) => as("optimizers", client.list({ prefix, limit: page })),
  livez: (client) => nothing(client.livez()),
  readyz: (client) => nothing(client.readyz()),
};

function connect({ url, timeout_ms: timeout, deadline_ms: deadline, retries }) {
  const given = Object.entries({ timeout, deadline, retries })
    .filter(([, value]) => value !== undefined);
  return new Client(url, Object.fromEntries(given));
}

function refused(error) {
  const { message } = error;
  if (error instanceof RequestError) {
    const { status, type, code, title, detail, members, etag, retryAfter } = error;
    const kind = Object.keys(members).length ? "problem" : "status";
    return { kind, message, status, type, code, title, detail, members, etag,
      retry_after: retryAfter };
  }
  return { kind: error instanceof ConnectionError ? "connection" : "protocol", message };
}

let client;

async function answer(call) {
  const missing = unknown(call);
  if (missing !== undefined) {
    return { unknown: missing };
  }
  try {
    if (call.op === "client") {
      client = connect(call.options);
      return { ok: {} };
    }
    if (call.op in SERVER) {
      return { ok: await SERVER[call.op](client, call.options ?? {}) };
    }
    return { ok: await OPTIMIZER[call.op](client.optimizer(call.optimizer), call) };
  } catch (error) {
    if (!(error instanceof AdamdError)) {
      throw error;
    }
    return { error: refused(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(JSON.parse(line)), plain) + "\n");
}
