package adamd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

var nan = number(math.NaN())

// StepResult is what a step did.
type StepResult struct {
	Step  int64  // the optimizer's step count after it
	Epoch int64  // changes when history is rewritten
	ETag  string // fits the next IfMatch

	// Params are the updated values of the parameters that took part: in "sync", of all workers of
	// the round. nil with Minimal, as Groups is; the Norms are NaN then.
	Params Tensors
	Norms  Norms
	Groups []Norms

	// Skipped: the step was left out for a gradient that is not finite, and nothing has changed.
	// With Minimal it is false, and only Step and ETag tell, which are those of before.
	Skipped bool
	// Converted counts the gradients whose type was not their parameter's.
	Converted int64
	// Pending: the optimizer gathers gradients ("buffered") and has not stepped yet; it now holds
	// so many, of which these are one (1 with Minimal). 0: it has stepped.
	Pending int64
	// Replayed: the step had been taken before, by an earlier try whose reply was lost or an earlier
	// call with the same IdempotencyKey. Step and the norms are that step's, the parameters the
	// current ones.
	Replayed bool
}

// Step sends gradients, takes one step, and returns the updated parameters. A parameter without a
// gradient is left out of the step. Gradients may be of any type; they are converted to their
// parameter's. They are not copied: nothing may write to them before Step returns. Where the
// aggregation is "sync", that is when the round closes.
func (o *Optimizer) Step(ctx context.Context, grads Tensors, options ...StepOption) (*StepResult, error) {
	spec := stepSpec{header: headers{}, query: url.Values{}}
	for _, option := range options {
		option.step(&spec)
	}
	if err := firstOf(spec.err, o.check(), spec.finish()); err != nil {
		return nil, err
	}
	r, err := o.send("POST", "/step"+query(spec.query)).withTensors(grads, spec.settings)
	if err != nil {
		return nil, err
	}
	r.header = http.Header(spec.header)
	if spec.minimal {
		return o.stepMinimal(ctx, r)
	}
	got, tensors, metadata, err := o.client.callTensors(ctx, r)
	if err != nil {
		return nil, err
	}
	result := &StepResult{ETag: got.etag(), Params: tensors, Replayed: got.replayed()}
	if err := result.read(metadata); err != nil {
		return nil, o.client.odd(&r, got, "%v", err)
	}
	return result, nil
}

// finish gives a step what it has not been given.
func (s *stepSpec) finish() error {
	if s.header["Idempotency-Key"] == nil {
		var bits [16]byte
		if _, err := rand.Read(bits[:]); err != nil {
			return fmt.Errorf("adamd: no random bits for the step's key: %w", err)
		}
		s.header.set("Idempotency-Key", hex.EncodeToString(bits[:]))
	}
	if s.minimal {
		s.header.set("Prefer", "return=minimal")
	}
	if s.groups != nil {
		text, err := marshal(s.groups)
		if err != nil {
			return err
		}
		s.settings = append(s.settings, pair{"param_groups", string(text)})
	}
	return nil
}

// stepMinimal is a step whose reply has an ETag alone.
func (o *Optimizer) stepMinimal(ctx context.Context, r request) (*StepResult, error) {
	r.accept = mediaSafetensors
	got, err := o.client.call(ctx, r)
	if err != nil {
		return nil, err
	}
	none := math.NaN()
	result := &StepResult{ETag: got.etag(), Norms: Norms{none, none, none, none}, Replayed: got.replayed()}
	if got.status == http.StatusAccepted {
		result.Pending = 1
	}
	if result.Epoch, result.Step, err = splitETag(result.ETag); err != nil {
		return nil, o.client.odd(&r, got, "%v", err)
	}
	return result, nil
}

// read takes the metadata of a step's reply.
func (s *StepResult) read(metadata map[string]string) error {
	var err error
	if s.Epoch, _, err = splitETag(s.ETag); err != nil {
		return err
	}
	whole := func(name string) int64 {
		value, wrong := strconv.ParseInt(metadata[name], 10, 64)
		if wrong != nil && err == nil {
			err = fmt.Errorf("%s is %q in the reply, expected a whole number", name, metadata[name])
		}
		return value
	}
	float := func(name string) float64 {
		value, wrong := strconv.ParseFloat(metadata[name], 64)
		if wrong != nil && err == nil {
			err = fmt.Errorf("%s is %q in the reply, expected a number", name, metadata[name])
		}
		return value
	}
	s.Step, s.Converted = whole("step"), whole("converted")
	s.Norms = Norms{float("grad_norm"), float("param_norm"), float("update_norm"), float("clip_coef")}
	s.Skipped = metadata["skipped"] == "true"
	if _, held := metadata["pending"]; held {
		s.Pending = whole("pending")
	}
	if wrong := json.Unmarshal([]byte(metadata["param_groups"]), &s.Groups); wrong != nil && err == nil {
		err = fmt.Errorf("param_groups is %q in the reply: %w", metadata["param_groups"], wrong)
	}
	return err
}

// splitETag reads "e<epoch>-s<step>", with its quotes.
func splitETag(etag string) (epoch, step int64, err error) {
	e, s, ok := strings.Cut(strings.Trim(etag, `"`), "-s")
	if ok && strings.HasPrefix(e, "e") {
		epoch, err = strconv.ParseInt(e[1:], 10, 64)
		if err == nil {
			step, err = strconv.ParseInt(s, 10, 64)
		}
	}
	if !ok || !strings.HasPrefix(e, "e") || err != nil {
		return 0, 0, fmt.Errorf("the reply's ETag is %q, expected \"e<epoch>-s<step>\"", etag)
	}
	return epoch, step, nil
}
