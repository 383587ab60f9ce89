// The package's face: everything that is exported. index.d.ts describes it.

export { Client } from "./client.js";
export { Optimizer } from "./optimizer.js";
export { Tensor } from "./tensor.js";
export { decode, encode } from "./safetensors.js";
export {
  AdamdError, BadRequest, Conflict, ConnectionError, Forbidden, FormatError, NotFound, OutOfSpace,
  PreconditionFailed, ProtocolError, RequestError, TooLarge, Unavailable, Unprocessable,
} from "./errors.js";
