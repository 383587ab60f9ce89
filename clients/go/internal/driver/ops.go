package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	adamd "github.com/adamd/adamd/clients/go"
)

type clientOp func(context.Context, *adamd.Client, *call) (object, error)
type op func(context.Context, *adamd.Optimizer, *call) (object, error)

var clientOps = map[string]clientOp{
	"list":   list,
	"livez":  func(ctx context.Context, c *adamd.Client, _ *call) (object, error) { return object{}, c.Live(ctx) },
	"readyz": func(ctx context.Context, c *adamd.Client, _ *call) (object, error) { return object{}, c.Ready(ctx) },
}

var ops = map[string]op{
	"step":              step,
	"create":            create,
	"summary":           summary,
	"configure":         configure,
	"delete":            func(ctx context.Context, o *adamd.Optimizer, _ *call) (object, error) { return object{}, o.Delete(ctx) },
	"params":            params,
	"param":             param,
	"put_params":        putParams,
	"param_groups":      paramGroups,
	"add_param_group":   addParamGroup,
	"patch_param_group": patchParamGroup,
	"state":             state,
	"state_dict":        stateDict,
	"put_state_dict":    putStateDict,
	"digest":            digest,
	"history":           history,
	"changes":           changes,
	"events":            events,
	"workers":           workers,
	"remove_worker": func(ctx context.Context, o *adamd.Optimizer, c *call) (object, error) {
		return object{}, o.RemoveWorker(ctx, c.Options.text("worker"))
	},
	"round": func(ctx context.Context, o *adamd.Optimizer, _ *call) (object, error) {
		round, err := o.Round(ctx)
		return object{"round": round}, err
	},
	"drop_round": func(ctx context.Context, o *adamd.Optimizer, _ *call) (object, error) {
		return object{}, o.DropRound(ctx)
	},
	"snapshot": snapshot,
	"rollback": func(ctx context.Context, o *adamd.Optimizer, c *call) (object, error) {
		return said(o.Rollback(ctx, c.Options.int("step")))
	},
	"fork": fork,
}

// said is a summary with all that the server said in it.
func said(summary *adamd.Summary, err error) (object, error) {
	if err != nil {
		return nil, err
	}
	return object{"summary": summary.Raw}, nil
}

func list(ctx context.Context, client *adamd.Client, c *call) (object, error) {
	found := []json.RawMessage{}
	prefix := c.Options.text("prefix")
	if !c.Options.has("page") {
		all, err := client.List(ctx, prefix)
		for _, s := range all {
			found = append(found, s.Raw)
		}
		return object{"optimizers": found}, err
	}
	after := ""
	for {
		page, next, err := client.ListPage(ctx, prefix, after, int(c.Options.int("page")))
		if err != nil {
			return nil, err
		}
		for _, s := range page {
			found = append(found, s.Raw)
		}
		if after = next; next == "" {
			return object{"optimizers": found}, nil
		}
	}
}

// gradientSettings are those among the options of a step, a creation or a change.
func gradientSettings(o options) []adamd.GradientSetting {
	out := []adamd.GradientSetting{}
	for name := range o {
		switch name {
		case "grad_scale":
			out = append(out, adamd.GradScale(o.float(name)))
		case "nonfinite":
			out = append(out, adamd.NonFiniteGrads(o.text(name)))
		case "max_grad_norm":
			out = append(out, adamd.MaxGradNorm(o.float(name)))
		case "norm_type":
			out = append(out, adamd.NormType(o.float(name)))
		case "error_if_nonfinite":
			yes, _ := o[name].(bool)
			out = append(out, adamd.ErrorIfNonFinite(yes))
		case "clip_value":
			out = append(out, adamd.ClipValue(o.float(name)))
		}
	}
	return out
}

func trainingSettings(o options) []adamd.TrainingSetting {
	out := []adamd.TrainingSetting{}
	for name := range o {
		switch name {
		case "aggregation":
			out = append(out, adamd.Aggregation(o.object(name)))
		case "input":
			out = append(out, adamd.Input(o.text(name)))
		case "max_consecutive_nonfinite":
			out = append(out, adamd.MaxConsecutiveNonFinite(int(o.int(name))))
		}
	}
	return out
}

func step(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	grads, err := toTensors(c.Grads)
	if err != nil {
		return nil, err
	}
	o := c.Options
	choices := []adamd.StepOption{}
	for _, setting := range gradientSettings(o) {
		choices = append(choices, setting)
	}
	for name := range o {
		switch name {
		case "worker":
			choices = append(choices, adamd.Worker(o.text(name)))
		case "weight":
			choices = append(choices, adamd.Weight(o.float(name)))
		case "based_on":
			choices = append(choices, adamd.BasedOn(o.int(name)))
		case "if_match":
			choices = append(choices, adamd.IfMatch(o.text(name)))
		case "key":
			choices = append(choices, adamd.IdempotencyKey(o.text(name)))
		case "param_groups":
			choices = append(choices, adamd.GroupChanges(o.objects(name)...))
		case "dtype":
			choices = append(choices, adamd.As(dtypes[o.text(name)]))
		case "minimal":
			choices = append(choices, adamd.Minimal())
		}
	}
	r, err := opt.Step(ctx, grads, choices...)
	if err != nil {
		return nil, err
	}
	return norms(r.Norms, object{
		"step": r.Step, "etag": r.ETag, "params": fromTensors(r.Params), "skipped": r.Skipped,
		"converted": r.Converted, "pending": r.Pending, "replayed": r.Replayed,
	}), nil
}

func create(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	initial, err := toTensors(c.Params)
	if err != nil {
		return nil, err
	}
	o := c.Options
	choices := []adamd.CreateOption{}
	for _, setting := range gradientSettings(o) {
		choices = append(choices, setting)
	}
	for _, setting := range trainingSettings(o) {
		choices = append(choices, setting)
	}
	for name := range o {
		switch name {
		case "algorithm":
			choices = append(choices, adamd.Algorithm(o.text(name)))
		case "defaults":
			choices = append(choices, adamd.Defaults(o.object(name)))
		case "schedule":
			choices = append(choices, adamd.Schedule(o.object(name)))
		case "param_groups":
			choices = append(choices, adamd.ParamGroups(o.objects(name)...))
		}
	}
	return said(opt.Create(ctx, initial, choices...))
}

func summary(ctx context.Context, opt *adamd.Optimizer, _ *call) (object, error) {
	return said(opt.Summary(ctx))
}

func configure(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	o := options(c.Options.object("changes"))
	choices := []adamd.ConfigureOption{}
	for _, setting := range gradientSettings(o) {
		choices = append(choices, setting)
	}
	for _, setting := range trainingSettings(o) {
		choices = append(choices, setting)
	}
	return said(opt.Configure(ctx, choices...))
}

func params(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	o := c.Options
	choices := []adamd.ReadOption{}
	if o.has("dtype") {
		choices = append(choices, adamd.As(dtypes[o.text("dtype")]))
	}
	if o.has("if_none_match") {
		choices = append(choices, adamd.IfNoneMatch(o.text("if_none_match")))
	}
	if o.has("wait") {
		choices = append(choices, adamd.Wait(time.Duration(o.int("wait"))*time.Second))
	}
	p, err := opt.Params(ctx, choices...)
	if errors.Is(err, adamd.ErrNotModified) {
		return object{"not_modified": true}, nil
	}
	if err != nil {
		return nil, err
	}
	return object{"step": p.Step, "etag": p.ETag, "params": fromTensors(p.Tensors)}, nil
}

func param(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	as := []adamd.TypeOption{}
	if c.Options.has("dtype") {
		as = append(as, adamd.As(dtypes[c.Options.text("dtype")]))
	}
	t, err := opt.Param(ctx, c.Options.text("param"), as...)
	if err != nil {
		return nil, err
	}
	return object{"tensor": fromTensor(t)}, nil
}

func putParams(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	values, err := toTensors(c.Params)
	if err != nil {
		return nil, err
	}
	return object{}, opt.PutParams(ctx, values)
}

func data(o options) []adamd.DataOption {
	if !o.has("data") {
		return nil
	}
	return []adamd.DataOption{adamd.DataOption(o.text("data"))}
}

func paramGroups(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	found, err := opt.ParamGroups(ctx, data(c.Options)...)
	groups := []object{}
	for i := range found {
		groups = append(groups, group(&found[i]))
	}
	return object{"param_groups": groups}, err
}

func addParamGroup(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	added, err := toTensors(c.Params)
	if err != nil {
		return nil, err
	}
	return object{}, opt.AddParamGroup(ctx, added, c.Options.object("group"))
}

func patchParamGroup(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	g, err := opt.PatchParamGroup(ctx, int(c.Options.int("index")), c.Options.object("changes"))
	if err != nil {
		return nil, err
	}
	return object{"group": group(g)}, nil
}

func state(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	s, err := opt.State(ctx, c.Options.text("param"), data(c.Options)...)
	if err != nil {
		return nil, err
	}
	all := object{
		"name": s.Name, "shape": s.Shape, "dtype": s.DType, "step": s.Step,
		"exp_avg": moment(&s.ExpAvg), "exp_avg_sq": moment(&s.ExpAvgSq),
	}
	if s.MaxExpAvgSq != nil {
		all["max_exp_avg_sq"] = moment(s.MaxExpAvgSq)
	}
	return object{"state": all}, nil
}

func stateDict(ctx context.Context, opt *adamd.Optimizer, _ *call) (object, error) {
	var file bytes.Buffer
	err := opt.WriteStateDict(ctx, &file)
	return object{"file": hex.EncodeToString(file.Bytes())}, err
}

func putStateDict(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	file, err := hex.DecodeString(c.File)
	if err != nil {
		return nil, err
	}
	return object{}, opt.PutStateDict(ctx, bytes.NewReader(file), adamd.Load(c.Options.text("load")))
}

func digest(ctx context.Context, opt *adamd.Optimizer, _ *call) (object, error) {
	d, err := opt.Digest(ctx)
	if err != nil {
		return nil, err
	}
	return object{"digest": d.Digest, "step": d.Step}, nil
}

func history(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	found, err := opt.History(ctx, int(c.Options.int("last")))
	records := []object{}
	for i := range found {
		records = append(records, record(&found[i]))
	}
	return object{"history": records}, err
}

func changes(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	found, err := opt.Changes(ctx, int(c.Options.int("last")))
	if found == nil {
		found = []adamd.Change{}
	}
	return object{"changes": found}, err
}

func workers(ctx context.Context, opt *adamd.Optimizer, _ *call) (object, error) {
	w, err := opt.Workers(ctx)
	if err != nil {
		return nil, err
	}
	return object{"workers": w.Workers, "gone": w.Gone}, nil
}

func snapshot(ctx context.Context, opt *adamd.Optimizer, _ *call) (object, error) {
	s, err := opt.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return object{"step": s.Step, "lsn": s.LSN}, nil
}

func fork(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	choices := []adamd.ForkOption{}
	if c.Options.has("step") {
		choices = append(choices, adamd.AtStep(c.Options.int("step")))
	}
	return said(opt.Fork(ctx, c.Options.text("name"), choices...))
}

func events(ctx context.Context, opt *adamd.Optimizer, c *call) (object, error) {
	choices := []adamd.EventOption{}
	if c.Options.has("last_event_id") {
		choices = append(choices, adamd.After(c.Options.int("last_event_id")))
	}
	stream := opt.Events(ctx, choices...)
	defer stream.Close()
	found := []object{}
	for len(found) < int(c.Options.int("take")) && stream.Next() {
		event := stream.Event()
		said := object{"name": event.Name, "id": nil, "data": event.Data}
		if event.ID >= 0 {
			said["id"] = event.ID
		}
		if event.Step != nil {
			said["data"] = record(event.Step)
		}
		found = append(found, said)
	}
	return object{"events": found}, stream.Err()
}
