package adamd

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"
)

// JSON is an object of options, by the protocol's names: JSON{"lr": 0.01, "betas": []float64{0.9, 0.99}}.
type JSON = map[string]any

// CreateOption is a choice of Create.
type CreateOption interface{ create(*createSpec) }

// ConfigureOption is a setting that Configure changes.
type ConfigureOption interface{ configure(JSON) }

// StepOption is a choice of Step.
type StepOption interface{ step(*stepSpec) }

// ReadOption is a choice of Params and its kin.
type ReadOption interface{ read(*readSpec) }

type createSpec struct {
	spec     JSON
	defaults JSON
}

type stepSpec struct {
	header   headers
	query    url.Values
	settings []pair
	groups   any
	minimal  bool
	err      error
}

type readSpec struct {
	header headers
	query  url.Values
	wait   time.Duration
	err    error
}

// headers are those of a request, by their canonical names.
type headers map[string][]string

func (h headers) set(name, value string) { h[name] = []string{value} }

// visible sets a header to a value that is sure to arrive.
func (h headers) visible(name, value string) error {
	if len(value) < 1 || len(value) > 128 {
		return fmt.Errorf("adamd: %s of %d characters, expected 1 to 128", name, len(value))
	}
	for i := 0; i < len(value); i++ {
		if value[i] <= ' ' || value[i] > '~' {
			return fmt.Errorf("adamd: %s is %q, expected visible ASCII characters", name, value)
		}
	}
	h.set(name, value)
	return nil
}

// ---- creation

type createOption func(*createSpec)

func (o createOption) create(spec *createSpec) { o(spec) }

// Algorithm is "adam", which is the default, or "adamw".
func Algorithm(name string) CreateOption {
	return createOption(func(s *createSpec) { s.spec["algorithm"] = name })
}

// Defaults are hyperparameters of every group that does not name its own: lr, betas, eps,
// weight_decay, amsgrad, maximize, and adamd's bias_correction and buffers.
func Defaults(options JSON) CreateOption {
	return createOption(func(s *createSpec) {
		for name, value := range options {
			s.defaults[name] = value
		}
	})
}

// LR is the learning rate among the Defaults.
func LR(lr float64) CreateOption { return Defaults(JSON{"lr": lr}) }

// ParamGroups are the groups, JSON{"params": []string{"w", "b"}, "lr": 0.1}. In place of the names
// may stand JSON{"regex": "bias$"}: every parameter in whose name the server finds it, as PCRE2
// reads it. Without ParamGroups, one group holds every parameter.
func ParamGroups(groups ...JSON) CreateOption {
	return createOption(func(s *createSpec) { s.spec["param_groups"] = groups })
}

// Schedule is the learning-rate schedule of every group that names none:
// JSON{"name": "StepLR", "step_size": 30}.
func Schedule(schedule JSON) CreateOption {
	return createOption(func(s *createSpec) { s.spec["schedule"] = schedule })
}

// ---- settings

// TrainingSetting says how the gradients of many workers become steps: with Create, or later with
// Configure.
type TrainingSetting struct {
	name  string
	value any
}

func (s TrainingSetting) create(spec *createSpec) { spec.spec[s.name] = s.value }
func (s TrainingSetting) configure(changes JSON)  { changes[s.name] = s.value }

// Aggregation is how gradients become steps: JSON{"mode": "sync", "workers": 4}, and the others of
// docs/training.md. In Configure, its members go over those of the same mode. nil is the default.
func Aggregation(aggregation JSON) TrainingSetting {
	if aggregation == nil {
		return TrainingSetting{"aggregation", nil}
	}
	return TrainingSetting{"aggregation", aggregation}
}

// Input is what a step carries: "gradients", or "weights" that were trained elsewhere.
func Input(input string) TrainingSetting { return TrainingSetting{"input", input} }

// MaxConsecutiveNonFinite is how many gradients in a row that are not finite put their worker in
// quarantine; 0: none do.
func MaxConsecutiveNonFinite(n int) TrainingSetting {
	if n == 0 {
		return TrainingSetting{"max_consecutive_nonfinite", nil}
	}
	return TrainingSetting{"max_consecutive_nonfinite", n}
}

// GradientSetting says what is done with gradients before a step: with Create, later with
// Configure, or with a Step, for that one alone.
type GradientSetting struct {
	name  string
	value any
}

func (s GradientSetting) create(spec *createSpec) { spec.spec[s.name] = s.value }
func (s GradientSetting) configure(changes JSON)  { changes[s.name] = s.value }

func (s GradientSetting) step(spec *stepSpec) {
	text, isText := s.value.(string)
	if !isText {
		encoded, err := json.Marshal(s.value)
		if err != nil && spec.err == nil {
			spec.err = fmt.Errorf("adamd: %s: %w", s.name, err)
		}
		text = string(encoded)
	}
	spec.settings = append(spec.settings, pair{s.name, text})
}

// GradScale is what the loss was multiplied with: gradients are multiplied with its inverse.
func GradScale(scale float64) GradientSetting { return GradientSetting{"grad_scale", scale} }

// NonFiniteGrads is what happens where a gradient is NaN or infinite: "error" refuses the step,
// "skip" leaves it out, "apply" steps with it.
func NonFiniteGrads(what string) GradientSetting { return GradientSetting{"nonfinite", what} }

// MaxGradNorm brings the total norm of the gradients down to this; math.Inf(1): no limit.
func MaxGradNorm(norm float64) GradientSetting { return noLimit("max_grad_norm", norm) }

// ClipValue holds each element between -value and value; math.Inf(1): no limit.
func ClipValue(value float64) GradientSetting { return noLimit("clip_value", value) }

func noLimit(name string, value float64) GradientSetting {
	if math.IsInf(value, 1) {
		return GradientSetting{name, nil}
	}
	return GradientSetting{name, value}
}

// NormType is the kind of that norm: 2 or math.Inf(1).
func NormType(p float64) GradientSetting {
	if math.IsInf(p, 1) {
		return GradientSetting{"norm_type", "inf"}
	}
	return GradientSetting{"norm_type", p}
}

// ErrorIfNonFinite refuses a step whose total norm, being measured, is not finite.
func ErrorIfNonFinite(yes bool) GradientSetting { return GradientSetting{"error_if_nonfinite", yes} }

// ---- a step

type stepOption func(*stepSpec) error

func (o stepOption) step(spec *stepSpec) {
	if err := o(spec); err != nil && spec.err == nil {
		spec.err = err
	}
}

// Worker is who sends, 1 to 128 visible ASCII characters. Needed where the aggregation is "sync".
func Worker(name string) StepOption {
	return stepOption(func(s *stepSpec) error { return s.header.visible("Adam-Worker", name) })
}

// Weight is what the gradients count in a weighted mean, such as their number of samples.
func Weight(weight float64) StepOption {
	return stepOption(func(s *stepSpec) error {
		s.header.set("Adam-Weight", strconv.FormatFloat(weight, 'g', -1, 64))
		return nil
	})
}

// BasedOn is the step of the parameters that the gradients were computed on.
func BasedOn(step int64) StepOption {
	return stepOption(func(s *stepSpec) error {
		s.header.set("Adam-Based-On", strconv.FormatInt(step, 10))
		return nil
	})
}

// IfMatch takes the step only on the version of this ETag; PreconditionFailed otherwise.
func IfMatch(etag string) StepOption {
	return stepOption(func(s *stepSpec) error {
		s.header.set("If-Match", etag)
		return nil
	})
}

// IdempotencyKey names this step among all, 1 to 128 visible ASCII characters, so that it is taken
// once however often it is sent. Without it, a step has 128 random bits. After a ConnectionError a
// call with its key and the same gradients goes on where that one ended.
func IdempotencyKey(key string) StepOption {
	return stepOption(func(s *stepSpec) error { return s.header.visible("Idempotency-Key", key) })
}

// GroupChanges are changed hyperparameters, an object for each group in order; they stay.
func GroupChanges(groups ...JSON) StepOption {
	return stepOption(func(s *stepSpec) error {
		s.groups = groups
		return nil
	})
}

// Minimal asks for neither parameters nor statistics back; StepResult says what is left.
func Minimal() StepOption {
	return stepOption(func(s *stepSpec) error {
		s.minimal = true
		return nil
	})
}

// ---- reading

// TypeOption is the type of the parameters that come back.
type TypeOption struct{ dtype DType }

func (o TypeOption) step(s *stepSpec) { s.query.Set("dtype", o.dtype.query()) }
func (o TypeOption) read(s *readSpec) { s.query.Set("dtype", o.dtype.query()) }

// As asks for all parameters in this type, rounded to nearest even; without it each has its own.
// With Step, Params, Param and WriteParams.
func As(dtype DType) TypeOption { return TypeOption{dtype} }

// WaitOption is a choice of Params alone.
type WaitOption func(*readSpec) error

func (o WaitOption) read(spec *readSpec) {
	if err := o(spec); err != nil && spec.err == nil {
		spec.err = err
	}
}

// IfNoneMatch asks for the parameters only where they are of another version than this ETag:
// ErrNotModified while they are not.
func IfNoneMatch(etag string) WaitOption {
	return func(s *readSpec) error {
		s.header.set("If-None-Match", etag)
		return nil
	}
}

// Wait holds the reply back until the step changes (with IfNoneMatch: at once, if it has), but for
// no longer than this, in whole seconds from 1 to 300.
func Wait(d time.Duration) WaitOption {
	return func(s *readSpec) error {
		if d < time.Second || d > 300*time.Second || d%time.Second != 0 {
			return fmt.Errorf("adamd: Wait(%v): expected whole seconds from 1 to 300", d)
		}
		s.wait = d
		s.query.Set("wait", strconv.Itoa(int(d/time.Second)))
		return nil
	}
}
