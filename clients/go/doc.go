// Package adamd trains through adamd, an Adam optimizer that is reached over HTTP: gradients in, one
// step, updated parameters out.
//
//	client, err := adamd.New("http://127.0.0.1:2326")
//	opt := client.Optimizer("mlp")
//	_, err = opt.Create(ctx, adamd.Tensors{adamd.NewTensor("w", w, 3, 2)}, adamd.Algorithm("adamw"), adamd.LR(0.01))
//	result, err := opt.Step(ctx, adamd.Tensors{adamd.NewTensor("w", grad, 3, 2)}, adamd.Worker("one"))
//	w, err = result.Params.Float32("w")
//
// Every call takes a context, which ends it and holds its deadline. Tensors travel as safetensors and
// are not copied: what is sent are the caller's slices, what comes back are views of the one buffer
// that was received. Go has no 16-bit floats: BFloat16 and Float16 are []uint16, their bits.
//
// # Repeats
//
// A step is taken once however often it is sent: it carries an Idempotency-Key, and is sent again
// with it where no whole reply came and after 503 with Retry-After. So is what only reads. Client has
// the rest.
//
// # Errors
//
// A refusal is a *Problem, with all members of the problem document, and matches its Code by
// errors.Is. No whole reply is a *ConnectionError, what is not adamd's reply a *ReplyError. What the
// client itself refuses is sent nowhere, and is none of these.
//
// The protocol is described in docs/protocol.md and docs/training.md of adamd.
package adamd
