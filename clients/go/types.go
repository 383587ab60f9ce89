package adamd

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// What JSON replies hold. Members that this client does not know, of a newer server, are passed
// over; Raw, where there is one, has them.

// Server is what a server is.
type Server struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	Kernel     string `json:"kernel"`
	Optimizers int64  `json:"optimizers"`
}

// Summary is an optimizer at a glance.
type Summary struct {
	Name        string         `json:"name"`
	Algorithm   string         `json:"algorithm"`
	Step        int64          `json:"step"`
	Skipped     int64          `json:"skipped"` // steps left out for gradients that were not finite
	Epoch       int64          `json:"epoch"`
	ParamGroups int            `json:"param_groups"`
	Params      int            `json:"params"`
	NumEl       int64          `json:"numel"`
	Bytes       int64          `json:"bytes"` // in the server's memory
	Defaults    map[string]any `json:"defaults"`

	Aggregation             map[string]any `json:"aggregation"`
	Input                   string         `json:"input"`
	MaxConsecutiveNonFinite *int           `json:"max_consecutive_nonfinite"`

	Raw json.RawMessage `json:"-"` // the whole of it, with what is done with gradients
}

// UnmarshalJSON keeps the text beside what it says.
func (s *Summary) UnmarshalJSON(text []byte) error {
	type plain Summary
	if err := json.Unmarshal(text, (*plain)(s)); err != nil {
		return err
	}
	s.Raw = append(json.RawMessage(nil), text...)
	return nil
}

// number is a float64 that may not be finite, for which JSON has words; null is none.
type number float64

func (n *number) UnmarshalJSON(text []byte) error {
	var word string
	if json.Unmarshal(text, &word) != nil {
		word = string(text)
	}
	if word == "null" {
		return nil
	}
	value, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return fmt.Errorf("%s is no number", text)
	}
	*n = number(value)
	return nil
}

// Norms are L2 norms over all elements of a step, or of one group of it.
type Norms struct {
	Grad   float64 // of the gradients, unscaled and not clipped
	Param  float64 // of the parameters after the step
	Update float64 // of their change
	Clip   float64 // what the gradients were multiplied with (clip_coef)
}

// UnmarshalJSON reads the words for what is not finite too.
func (n *Norms) UnmarshalJSON(text []byte) error {
	var raw struct {
		Grad   number `json:"grad_norm"`
		Param  number `json:"param_norm"`
		Update number `json:"update_norm"`
		Clip   number `json:"clip_coef"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*n = Norms{float64(raw.Grad), float64(raw.Param), float64(raw.Update), float64(raw.Clip)}
	return nil
}

// StepRecord is a step in the history.
type StepRecord struct {
	Step    int64 // the step count after it
	Time    time.Time
	Worker  string // empty where it is of several gradients, or nobody was named
	Skipped bool   // left out for a gradient that was not finite
	Norms   Norms
	Groups  []GroupRecord
}

// GroupRecord is a param group's part in a step.
type GroupRecord struct {
	LR    float64 // with which the step was taken
	Norms Norms
}

// UnmarshalJSON reads a record as the history has it.
func (r *StepRecord) UnmarshalJSON(text []byte) error {
	var raw struct {
		Step    int64         `json:"step"`
		Time    time.Time     `json:"time"`
		Worker  string        `json:"worker"`
		Skipped bool          `json:"skipped"`
		Groups  []GroupRecord `json:"param_groups"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*r = StepRecord{Step: raw.Step, Time: raw.Time, Worker: raw.Worker, Skipped: raw.Skipped, Groups: raw.Groups}
	return json.Unmarshal(text, &r.Norms)
}

// UnmarshalJSON reads a group's part as the history has it.
func (g *GroupRecord) UnmarshalJSON(text []byte) error {
	var raw struct {
		LR number `json:"lr"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	g.LR = float64(raw.LR)
	return json.Unmarshal(text, &g.Norms)
}

// Change is something that was changed between steps.
type Change struct {
	Time time.Time       `json:"time"`
	Step int64           `json:"step"` // in force from the step after it
	What string          `json:"what"` // "param_groups[0].lr", "params", ...
	From json.RawMessage `json:"from"`
	To   json.RawMessage `json:"to"`
}

// Group is a param group.
type Group struct {
	Params         []Param
	LR             float64
	Betas          [2]float64
	Eps            float64
	WeightDecay    float64
	AMSGrad        bool
	Maximize       bool
	BiasCorrection bool // adamd's own; true unless switched off
	Buffers        bool // adamd's own: its parameters are running statistics
	InitialLR      *float64
	Schedule       map[string]any  // with its position; nil: none
	Raw            json.RawMessage // the whole of it
}

// UnmarshalJSON reads a group as param_groups has it.
func (g *Group) UnmarshalJSON(text []byte) error {
	raw := struct {
		Params         []Param        `json:"params"`
		LR             number         `json:"lr"`
		Betas          [2]number      `json:"betas"`
		Eps            number         `json:"eps"`
		WeightDecay    number         `json:"weight_decay"`
		AMSGrad        bool           `json:"amsgrad"`
		Maximize       bool           `json:"maximize"`
		BiasCorrection bool           `json:"bias_correction"`
		Buffers        bool           `json:"buffers"`
		InitialLR      *number        `json:"initial_lr"`
		Schedule       map[string]any `json:"schedule"`
	}{BiasCorrection: true}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*g = Group{
		Params: raw.Params, LR: float64(raw.LR),
		Betas: [2]float64{float64(raw.Betas[0]), float64(raw.Betas[1])},
		Eps:   float64(raw.Eps), WeightDecay: float64(raw.WeightDecay),
		AMSGrad: raw.AMSGrad, Maximize: raw.Maximize,
		BiasCorrection: raw.BiasCorrection, Buffers: raw.Buffers,
		InitialLR: (*float64)(raw.InitialLR), Schedule: raw.Schedule,
		Raw: append(json.RawMessage(nil), text...),
	}
	return nil
}

// Param is a parameter in a group.
type Param struct {
	Name  string
	DType DType
	Shape []int
	Data  []float64 // row-major; nil where the reply has none
}

// UnmarshalJSON reads a parameter as param_groups has it.
func (p *Param) UnmarshalJSON(text []byte) error {
	var raw struct {
		Name  string          `json:"name"`
		DType string          `json:"dtype"`
		Shape []int           `json:"shape"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	data, err := flatten(raw.Data)
	*p = Param{raw.Name, dtypeOf(raw.DType), raw.Shape, data}
	return err
}

// flatten is nested lists of numbers, row-major; nil of none.
func flatten(text json.RawMessage) ([]float64, error) {
	if text == nil {
		return nil, nil
	}
	out := []float64{}
	var walk func(json.RawMessage) error
	walk = func(text json.RawMessage) error {
		if text[0] != '[' {
			var n number
			err := json.Unmarshal(text, &n)
			out = append(out, float64(n))
			return err
		}
		var items []json.RawMessage
		if err := json.Unmarshal(text, &items); err != nil {
			return err
		}
		for _, item := range items {
			if err := walk(item); err != nil {
				return err
			}
		}
		return nil
	}
	return out, walk(text)
}

// Moment is one of the moments of a parameter, with its statistics; those of an empty one are NaN.
type Moment struct {
	Min, Max, Mean, Norm float64
	Data                 []float64 // row-major; nil where the reply has none
}

// UnmarshalJSON reads a moment as state has it.
func (m *Moment) UnmarshalJSON(text []byte) error {
	raw := struct {
		Min  number          `json:"min"`
		Max  number          `json:"max"`
		Mean number          `json:"mean"`
		Norm number          `json:"norm"`
		Data json.RawMessage `json:"data"`
	}{nan, nan, nan, nan, nil}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	data, err := flatten(raw.Data)
	*m = Moment{float64(raw.Min), float64(raw.Max), float64(raw.Mean), float64(raw.Norm), data}
	return err
}

// State is what an optimizer keeps of one parameter beside its values.
type State struct {
	Name        string  `json:"name"`
	Shape       []int   `json:"shape"`
	DType       string  `json:"dtype"` // "float32" or "float64"
	Step        int64   `json:"step"`
	ExpAvg      Moment  `json:"exp_avg"`
	ExpAvgSq    Moment  `json:"exp_avg_sq"`
	MaxExpAvgSq *Moment `json:"max_exp_avg_sq"` // where amsgrad is or was on
}

// Digest is a SHA-256 of everything that decides the next step.
type Digest struct {
	Digest string `json:"digest"` // "sha256:<hex>"
	Step   int64  `json:"step"`
}

// Workers are those who send gradients.
type Workers struct {
	Workers []WorkerRecord `json:"workers"` // by name
	Gone    int            `json:"gone"`    // not seen for too long, and not come back or replaced
}

// WorkerRecord is one of them.
type WorkerRecord struct {
	Name                 string         `json:"name"`
	FirstSeen            time.Time      `json:"first_seen"`
	LastSeen             time.Time      `json:"last_seen"`
	Steps                int64          `json:"steps"` // gradients of it that are in steps
	Weight               *float64       `json:"weight"`
	Staleness            *Staleness     `json:"staleness"` // nil: it never said
	NonFinite            int64          `json:"nonfinite"`
	ConsecutiveNonFinite int64          `json:"consecutive_nonfinite"`
	Quarantined          bool           `json:"quarantined"`
	Refused              map[Code]int64 `json:"refused"`
	LastRefusal          *Refusal       `json:"last_refusal"`
}

// Staleness is how old a worker's gradients were, in steps.
type Staleness struct {
	Last int64 `json:"last"`
	Max  int64 `json:"max"`
}

// Refusal is when a worker was refused, and for what.
type Refusal struct {
	Time time.Time `json:"time"`
	Code Code      `json:"code"`
}

// Round is the gradients that are held until they make a step together.
type Round struct {
	Mode       string    `json:"mode"`
	Step       int64     `json:"step"`
	Open       bool      `json:"open"`
	Gradients  int       `json:"gradients"` // held
	Wanted     int       `json:"wanted"`    // that close it
	Quorum     int       `json:"quorum"`
	Waiting    int       `json:"waiting"` // connections
	Workers    []*string `json:"workers"` // nil: without a name
	ClosesInMS *int64    `json:"closes_in_ms"`
}

// Snapshot is what a snapshot holds.
type Snapshot struct {
	Step int64 `json:"step"`
	LSN  int64 `json:"lsn"` // its place in the journal
}
