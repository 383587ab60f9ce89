package main

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"sort"

	adamd "github.com/adamd/adamd/clients/go"
)

// options are a call's, by the stage's names.
type options map[string]any

func (o options) has(name string) bool {
	_, ok := o[name]
	return ok
}

func (o options) text(name string) string {
	text, _ := o[name].(string)
	return text
}

func (o options) int(name string) int64 {
	number, _ := o[name].(json.Number)
	value, _ := number.Int64()
	return value
}

// float has no limit where the stage has null, and "inf" for a norm.
func (o options) float(name string) float64 {
	switch value := o[name].(type) {
	case json.Number:
		number, _ := value.Float64()
		return number
	}
	return math.Inf(1)
}

func (o options) object(name string) object {
	value, _ := o[name].(object)
	return value
}

func (o options) objects(name string) []object {
	list, _ := o[name].([]any)
	out := make([]object, len(list))
	for i, item := range list {
		out[i], _ = item.(object)
	}
	return out
}

// tensor is one as the stage has it.
type tensor struct {
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Hex   string `json:"hex"`
}

var dtypes = map[string]adamd.DType{
	"float32": adamd.Float32, "float64": adamd.Float64, "bfloat16": adamd.BFloat16, "float16": adamd.Float16,
	"f32": adamd.Float32, "f64": adamd.Float64, "bf16": adamd.BFloat16, "f16": adamd.Float16,
}

var names = map[adamd.DType]string{
	adamd.Float32: "float32", adamd.Float64: "float64", adamd.BFloat16: "bfloat16", adamd.Float16: "float16",
}

// toTensors goes by name: the stage does not say an order.
func toTensors(given map[string]tensor) (adamd.Tensors, error) {
	order := make([]string, 0, len(given))
	for name := range given {
		order = append(order, name)
	}
	sort.Strings(order)
	out := adamd.Tensors{}
	for _, name := range order {
		t := given[name]
		bytes, err := hex.DecodeString(t.Hex)
		if err != nil {
			return nil, err
		}
		out = append(out, adamd.Tensor{Name: name, DType: dtypes[t.DType], Shape: t.Shape, Bytes: bytes})
	}
	return out, nil
}

func fromTensor(t adamd.Tensor) tensor {
	return tensor{names[t.DType], t.Shape, hex.EncodeToString(t.Bytes)}
}

func fromTensors(given adamd.Tensors) any {
	if given == nil {
		return nil
	}
	out := map[string]tensor{}
	for _, t := range given {
		out[t.Name] = fromTensor(t)
	}
	return out
}

func norms(n adamd.Norms, more object) object {
	more["grad_norm"], more["param_norm"] = plain(n.Grad), plain(n.Param)
	more["update_norm"], more["clip_coef"] = plain(n.Update), plain(n.Clip)
	return more
}

func record(r *adamd.StepRecord) object {
	groups := []object{}
	for _, g := range r.Groups {
		groups = append(groups, norms(g.Norms, object{"lr": plain(g.LR)}))
	}
	said := object{"step": r.Step, "time": r.Time, "worker": nil, "skipped": r.Skipped, "param_groups": groups}
	if r.Worker != "" {
		said["worker"] = r.Worker
	}
	return norms(r.Norms, said)
}

func group(g *adamd.Group) object {
	params := []object{}
	for _, p := range g.Params {
		said := object{"name": p.Name, "shape": p.Shape, "dtype": names[p.DType]}
		if p.Data != nil {
			said["data"] = numbers(p.Data)
		}
		params = append(params, said)
	}
	said := object{
		"params": params, "lr": plain(g.LR), "betas": numbers(g.Betas[:]), "eps": plain(g.Eps),
		"weight_decay": plain(g.WeightDecay), "amsgrad": g.AMSGrad, "maximize": g.Maximize,
	}
	if g.Schedule != nil {
		said["schedule"] = g.Schedule
	}
	return said
}

func moment(m *adamd.Moment) object {
	said := object{"min": plain(m.Min), "max": plain(m.Max), "mean": plain(m.Mean), "norm": plain(m.Norm)}
	if m.Data != nil {
		said["data"] = numbers(m.Data)
	}
	return said
}

func numbers(values []float64) []any {
	out := make([]any, len(values))
	for i, value := range values {
		out[i] = plain(value)
	}
	return out
}
