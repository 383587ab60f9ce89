/**
 * Client of adamd, an Adam optimizer that you reach over HTTP.
 *
 * Documents (options of an optimizer, summaries, groups, records of steps) have the names of
 * adamd's protocol (`weight_decay`, `grad_norm`); docs/protocol.md describes them. What is the
 * client's own has JavaScript's (`idempotencyKey`).
 */

/** Numbers on the way. JavaScript may have no 16-bit floats: their data are the bits, in a
 * Uint16Array. */
export type DType = "float32" | "float64" | "bfloat16" | "float16";
export type TensorData = Float32Array | Float64Array | Uint16Array;
export type Nested = number | Nested[];

/** What may stand for a tensor: one, a typed array (of one dimension), a number, nested arrays of
 * numbers (float32), or its parts. */
export type TensorLike =
  | Tensor
  | Float32Array
  | Float64Array
  | Nested
  | { readonly data: TensorData; readonly shape?: readonly number[]; readonly dtype?: DType };

/** By name. The order is that in which an optimizer is created; an object has names like "10"
 * before all others, a Map has not. */
export type TensorsLike = { readonly [name: string]: TensorLike } | ReadonlyMap<string, TensorLike>;
export interface Tensors {
  [name: string]: Tensor;
}

/** A typed array with a shape, row-major. */
export class Tensor {
  /** Holds `data`, and does not copy it. `shape` is one dimension if left out, `dtype` that of the
   * array; of a Uint16Array it must be said. */
  constructor(data: TensorData, shape?: readonly number[], dtype?: DType);
  /** Of what may stand for one; `what` names it in errors. */
  static from(value: TensorLike, dtype?: DType, what?: string): Tensor;
  readonly data: TensorData;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly size: number;
  /** The bytes of the data, not copied. */
  readonly bytes: Uint8Array;
  /** The same numbers in another type, rounded once, to the nearest, ties to even. Itself where it
   * is of that type. */
  to(dtype: DType): Tensor;
  /** As nested arrays; a scalar as a number. */
  toArray(): Nested;
}

/** A safetensors file. */
export function encode(tensors: TensorsLike, metadata?: Record<string, string>): Uint8Array;
/** The tensors of a safetensors file, as views of it, and its metadata. FormatError where it is
 * none that adamd would send. */
export function decode(file: ArrayBuffer | ArrayBufferView): {
  tensors: Tensors;
  metadata: Record<string, string>;
};

/** What every call takes. */
export interface Call {
  /** Ends the call: it rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Milliseconds; goes before the client's. */
  timeout?: number;
  /** Milliseconds; goes before the client's. */
  deadline?: number;
}

export interface ClientOptions {
  /** Milliseconds to wait for a reply to begin, from when it is asked for on, sending included, and
   * for each next part of it: 120000. */
  timeout?: number;
  /** Milliseconds that a call may take with all its repeats: no limit. */
  deadline?: number;
  /** How often a step, or what only reads, is sent again: 8. */
  retries?: number;
  /** Bytes of a reply: 8 GiB. */
  maxReply?: number;
  /** In place of the global one, for a proxy or for headers of your own. */
  fetch?: typeof fetch;
}

/**
 * One server. A step, and a request that only reads, is sent again by itself where no whole reply
 * came and after 503 with Retry-After, never after another reply. The waits before are random, of
 * up to 0.1 s at first, which doubles to 5 s. A step's repeats carry the Idempotency-Key of the
 * first, so that it is taken once. What else changes something is sent once.
 */
export class Client {
  /** http://127.0.0.1:2326 if left out; in a page, a path is one of the page's own server. */
  constructor(url?: string, options?: ClientOptions);
  readonly url: string;
  /** A handle on the optimizer of this name, whether it exists yet or not. Sends nothing. */
  optimizer(name: string): Optimizer;
  /** The summaries of all optimizers whose name begins with `prefix`, by name, fetched `limit` at a
   * time. */
  list(options?: { prefix?: string; limit?: number } & Call): Promise<Summary[]>;
  /** What the server is: name, version, kernel. */
  server(call?: Call): Promise<Document>;
  /** true; where nothing answers, a ConnectionError. */
  livez(call?: Call): Promise<true>;
  /** Whether it takes requests; false while it recovers, drains or cannot write. */
  readyz(call?: Call): Promise<boolean>;
}

/** JSON as docs/protocol.md describes it. A newer server may say more. */
export type Document = Record<string, any>;

export interface Hyperparameters {
  lr?: number;
  betas?: [number, number];
  eps?: number;
  weight_decay?: number;
  amsgrad?: boolean;
  maximize?: boolean;
  bias_correction?: boolean;
  buffers?: boolean;
}
export interface GroupOptions extends Hyperparameters {
  /** {name: "StepLR", step_size: 30}: docs/schedules.md; null: none. */
  schedule?: Document | null;
}
export interface GroupSpec extends GroupOptions {
  /** Names, or a pattern that the server looks for in them, as PCRE2 reads it. */
  params?: string[] | RegExp | { regex: string };
}

/** What is done with gradients, in this order. null, and Infinity where it stands for no limit, are
 * the protocol's. */
export interface GradientSettings {
  grad_scale?: number | null;
  nonfinite?: "error" | "skip" | "apply" | null;
  max_grad_norm?: number | null;
  norm_type?: 2 | "inf" | number | null;
  error_if_nonfinite?: boolean | null;
  clip_value?: number | null;
}

export type Aggregation =
  | { mode?: "immediate" }
  | {
      mode?: "sync";
      workers?: number;
      quorum?: number | null;
      timeout_ms?: number | null;
      reduce?: "mean" | "sum" | "weighted" | null;
      elastic?: boolean | null;
      strict?: boolean | null;
    }
  | {
      mode?: "buffered";
      size?: number;
      reduce?: "mean" | "sum" | "weighted" | null;
      strict?: boolean | null;
    }
  | { mode?: "async"; max_staleness?: number; damping?: "none" | "inverse" | null };

/** What is done with gradients, and how workers work together. */
export interface Settings extends GradientSettings {
  aggregation?: Aggregation | null;
  input?: "gradients" | "weights" | null;
  max_consecutive_nonfinite?: number | null;
}

export interface CreateOptions extends Settings {
  algorithm?: "adam" | "adamw";
  defaults?: Hyperparameters;
  /** Left out, one group holds every parameter. */
  param_groups?: GroupSpec[];
  /** That of every group that names none. */
  schedule?: Document | null;
}

export interface Summary extends Document {
  name: string;
  algorithm: string;
  step: number;
  skipped: number;
  epoch: number;
  params: number;
  numel: number;
  bytes: number;
}

export interface StepOptions extends Call {
  /** Who sends: 1 to 128 visible ASCII characters. Needed with aggregation "sync". */
  worker?: string;
  /** What these gradients count in a weighted mean, such as their number of samples. */
  weight?: number;
  /** The step of the parameters that they were computed on. */
  basedOn?: number;
  /** An etag: the step is taken on that version alone (PreconditionFailed otherwise). */
  ifMatch?: string;
  /** Names this step among all, so that it is taken once however often it is sent: 1 to 128 visible
   * ASCII characters; 128 random bits if left out. */
  idempotencyKey?: string;
  /** Changed hyperparameters, an object for each group, which stay. */
  paramGroups?: GroupOptions[];
  /** For this step alone, before the optimizer's own. */
  settings?: GradientSettings;
  /** Neither parameters nor statistics come back. */
  minimal?: boolean;
  /** The type of the parameters that come back; their own if left out. */
  dtype?: DType;
}

export interface Stats {
  grad_norm: number;
  param_norm: number;
  update_norm: number;
  clip_coef: number;
  /** Left out for a gradient that is not finite; nothing has changed. */
  skipped: boolean;
  /** Gradients whose type was not their parameter's. */
  converted: number;
  param_groups: Document[];
}

export interface StepResult {
  step: number;
  /** Fits the next `ifMatch`. */
  etag: string;
  /** The updated parameters, views of the reply's buffer; null after a minimal step. */
  params: Tensors | null;
  /** null after a minimal step. */
  stats: Stats | null;
  /** Gradients that are held, of which these are one, where the optimizer gathers them and has not
   * stepped yet (1 after a minimal step); 0: it has stepped. */
  pending: number;
  /** The step had been taken before; `step` and `stats` are that step's, `params` and `etag` the
   * current ones. */
  replayed: boolean;
}

export interface Params {
  step: number;
  etag: string;
  params: Tensors;
}

export interface StepEvent {
  /** "step", "skipped", "gap" or "removed". */
  name: string;
  /** Of a step: where to go on from. */
  id: number | null;
  /** Of a step, as in the history. */
  data: Document;
}

/** A handle on one named optimizer; Client.optimizer() gives it. */
export class Optimizer {
  private constructor();
  readonly name: string;

  /** Creates it with these initial values, and gives its summary. */
  create(params: TensorsLike, options?: CreateOptions, call?: Call): Promise<Summary>;
  summary(call?: Call): Promise<Summary>;
  /** The version it is at, for `ifMatch`. */
  etag(call?: Call): Promise<string>;
  delete(call?: Call): Promise<void>;

  /** Sends gradients, takes one step, and gives the updated parameters. With aggregation "sync" the
   * reply comes when the round closes. Do not write into the arrays before it is there. */
  step(grads: TensorsLike, options: StepOptions & { minimal: true }): Promise<StepResult>;
  step(
    grads: TensorsLike,
    options?: StepOptions & { minimal?: false },
  ): Promise<StepResult & { params: Tensors; stats: Stats }>;

  /** All parameters. `wait` (1 to 300 seconds): when the step changes, with `ifNoneMatch` when it
   * has changed since, or at the end of the wait. null: they are still of `ifNoneMatch`. */
  params(
    options: { dtype?: DType; wait?: number; ifNoneMatch: string } & Call,
  ): Promise<Params | null>;
  params(options?: { dtype?: DType; wait?: number } & Call): Promise<Params>;
  param(name: string, options?: { dtype?: DType } & Call): Promise<Tensor>;
  /** Overwrites all parameters, by name; moments and step counts stay. */
  putParams(params: TensorsLike, call?: Call): Promise<void>;

  /** torch's param_groups. Values stand where a parameter has at most 1000 elements, or with `data`
   * everywhere or nowhere. */
  paramGroups(options?: { data?: "all" | "none" } & Call): Promise<Document[]>;
  addParamGroup(params: TensorsLike, options?: GroupOptions, call?: Call): Promise<void>;
  /** Changes hyperparameters of one group, from the next step on, and gives the group. */
  patchParamGroup(index: number, changes: GroupOptions, call?: Call): Promise<Document>;
  /** Changes settings, from the next step on, and gives the summary. */
  configure(settings: Settings, call?: Call): Promise<Summary>;

  /** Step, moments and their statistics of one parameter; the data of a moment, where it stands, is
   * a Tensor. */
  state(name: string, options?: { data?: "all" | "none" } & Call): Promise<Document>;
  /** Everything, as the bytes of a safetensors file. */
  stateDict(call?: Call): Promise<Uint8Array>;
  /** "everything" makes this optimizer what the state is, to the bit; "params" takes the values of
   * its parameters alone. */
  loadStateDict(
    file: Uint8Array,
    options: { load: "everything" | "params" } & Call,
  ): Promise<void>;
  /** "sha256:<hex>" of everything that decides the next step. */
  digest(call?: Call): Promise<string>;

  /** The last steps, oldest first. */
  history(options?: { last?: number } & Call): Promise<Document[]>;
  /** What was changed between steps, oldest first. */
  changes(options?: { last?: number } & Call): Promise<Document[]>;
  /** Steps as they come, from the next one on, or from `lastEventId` on. Where the stream breaks or
   * ends, it is opened again where it was; it is over after "removed". Resolves when the stream is
   * open; leave the loop, or abort the signal, to close it. */
  events(
    options?: { lastEventId?: number } & Omit<Call, "deadline">,
  ): Promise<AsyncGenerator<StepEvent, void, void>>;

  workers(call?: Call): Promise<{ workers: Document[]; gone: number }>;
  /** Forgets one, and ends its quarantine. */
  removeWorker(worker: string, call?: Call): Promise<void>;
  /** The gradients that are held. */
  round(call?: Call): Promise<Document>;
  dropRound(call?: Call): Promise<void>;

  /** Writes a snapshot; resolves when it is on disk. This and the next two need a server with
   * --data-dir. */
  snapshot(call?: Call): Promise<{ step: number; lsn: number }>;
  /** Back to an earlier step. */
  rollback(step: number, call?: Call): Promise<Summary>;
  /** Another optimizer of what this one is, or was at `step`. */
  fork(name: string, options?: { step?: number } & Call): Promise<Summary>;
}

/** Any failure of a call, but for arguments that cannot be sent (TypeError, RangeError) and the
 * reason of a signal. */
export class AdamdError extends Error {}
/** No whole reply came: not reached, cut off, or too slow. What changes something may have been
 * carried out all the same. */
export class ConnectionError extends AdamdError {
  /** How often it was sent. */
  readonly attempts: number;
  /** That of a step: a call with the same gradients and this key goes on where this one ended. */
  readonly idempotencyKey: string | null;
}
/** The reply is not what the protocol says. */
export class ProtocolError extends AdamdError {}
/** Bytes that are no safetensors file. */
export class FormatError extends ProtocolError {}

/** The server refused the request, and nothing has changed. Holds the problem document (RFC 9457);
 * what it does not say is undefined. */
export class RequestError extends AdamdError {
  readonly status: number;
  /** "urn:adamd:problem:shape-mismatch", "about:blank" where no problem document came. */
  readonly type: string;
  /** `type` without "urn:adamd:problem:": "shape-mismatch". */
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  /** All of it, members that this version does not know too. */
  readonly members: Document;
  readonly etag: string | null;
  /** Seconds. */
  readonly retryAfter: number | null;
  readonly param?: string;
  readonly index?: number;
  readonly expectedShape?: number[];
  readonly gotShape?: number[];
  readonly limitBytes?: number;
  readonly position?: number;
  readonly header?: string;
  readonly step?: number;
  readonly worker?: string;
  readonly have?: number;
  readonly quorum?: number;
  readonly basedOn?: number;
  readonly maxStaleness?: number;
}
/** 400: malformed, or holding a field or option that is not known. */
export class BadRequest extends RequestError {}
/** 403: the worker is in quarantine. */
export class Forbidden extends RequestError {}
/** 404 */
export class NotFound extends RequestError {}
/** 409: not as things stand now; `code` says why. */
export class Conflict extends RequestError {}
/** 412: not at the version that `ifMatch` named; `etag` is where it is. */
export class PreconditionFailed extends RequestError {}
/** 413 */
export class TooLarge extends RequestError {}
/** 422: well-formed but wrong. */
export class Unprocessable extends RequestError {}
/** 503 */
export class Unavailable extends RequestError {}
/** 507: of memory, or on disk. */
export class OutOfSpace extends RequestError {}
