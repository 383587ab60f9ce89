package adamd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func vector(name string, values ...float32) Tensors { return Tensors{NewTensor(name, values)} }

// The first step, to the bit, is torch's.
func TestLiveSteps(t *testing.T) {
	ctx, client, opt := live(t)
	summary, err := opt.Create(ctx, vector("w", 0.5, -1), LR(0.1), MaxGradNorm(10), NonFiniteGrads("skip"))
	must(t, err)
	want(t, "summary", line(summary.Name, summary.Algorithm, summary.Params, summary.Defaults["lr"]), line(opt.Name(), "adam", 1, 0.1))
	_, err = opt.Create(ctx, vector("w", 1))
	if !errors.Is(err, NameTaken) {
		t.Error(err)
	}
	r, err := opt.Step(ctx, vector("w", 1, -2), Worker("a"))
	must(t, err)
	w, err := r.Params.Float32("w")
	must(t, err)
	want(t, "w", w, []float32{0.4, -0.90000004})
	want(t, "step", line(r.Step, r.Skipped, r.Replayed, r.Norms.Clip), "1 false false 1")

	again, err := opt.Step(ctx, vector("w", 1, -2), IdempotencyKey("k"), IfMatch(r.ETag))
	must(t, err)
	replayed, err := opt.Step(ctx, vector("w", 1, -2), IdempotencyKey("k"), IfMatch(r.ETag))
	must(t, err)
	want(t, "replayed", line(again.Step, replayed.Step, replayed.Replayed), "2 2 true")
	_, err = opt.Step(ctx, vector("w", 1, -2), IfMatch(r.ETag))
	var problem *Problem
	if !errors.As(err, &problem) || problem.Code != PreconditionFailed || problem.ETag != again.ETag {
		t.Error(err)
	}
	_, err = opt.Step(ctx, Tensors{NewTensor("w", []float32{1, 2}, 2, 1)})
	if !errors.As(err, &problem) || problem.Code != ShapeMismatch || problem.Param != "w" ||
		line(problem.ExpectedShape, problem.GotShape) != "[2] [2 1]" {
		t.Error(err)
	}
	nan := float32(r.Norms.Clip - 1)
	r, err = opt.Step(ctx, vector("w", nan/nan, 1), As(BFloat16))
	must(t, err)
	bits, err := Values[uint16](r.Params[0])
	must(t, err)
	want(t, "skipped", line(r.Skipped, len(bits)), "true 2")
	r, err = opt.Step(ctx, Tensors{NewTensor16("w", Float16, []uint16{0x3c00, 0xc000})}, Minimal(), GroupChanges(JSON{"lr": 0.5}))
	must(t, err)
	want(t, "minimal", line(r.Step, r.Params == nil), "3 true")

	history, err := opt.History(ctx, 0)
	must(t, err)
	want(t, "history", line(len(history), history[0].Worker, history[3].Groups[0].LR, history[2].Skipped), "4 a 0.5 true")
	changes, err := opt.Changes(ctx, 1)
	must(t, err)
	want(t, "changes", line(changes[0].What, string(changes[0].From), string(changes[0].To)), "param_groups[0].lr 0.1 0.5")
	workers, err := opt.Workers(ctx)
	must(t, err)
	want(t, "workers", line(len(workers.Workers), workers.Workers[0].Name, workers.Workers[0].Steps), "1 a 1")
	must(t, opt.RemoveWorker(ctx, "a"))
	if err := opt.RemoveWorker(ctx, "a"); !errors.Is(err, NoSuchWorker) {
		t.Error(err)
	}
	list, err := client.List(ctx, opt.Name())
	must(t, err)
	want(t, "list", line(len(list), list[0].Step), "1 3")
	server, err := client.Server(ctx)
	must(t, err)
	want(t, "server", server.Name, "adamd")
	must(t, client.Live(ctx))
	must(t, client.Ready(ctx))
}

func TestLiveParamsAndGroups(t *testing.T) {
	ctx, _, opt := live(t)
	name := "größe/β ..?%"
	_, err := opt.Create(ctx, Tensors{NewTensor(name, []float32{1, 2}), NewTensor("b", []float64{3}), NewTensor16("half", BFloat16, []uint16{0x3fc0})},
		Algorithm("adamw"), Defaults(JSON{"lr": 0.5}), ParamGroups(JSON{"params": JSON{"regex": "^b$"}, "weight_decay": 0}, JSON{"params": []string{name, "half"}}))
	must(t, err)
	params, err := opt.Params(ctx)
	must(t, err)
	want(t, "step", params.Step, 0)
	half, err := params.Float32("half")
	must(t, err)
	want(t, "half", half, []float32{1.5})
	one, err := opt.Param(ctx, name, As(Float64))
	must(t, err)
	values, err := Values[float64](one)
	must(t, err)
	want(t, "one", values, []float64{1, 2})
	if _, err := opt.Params(ctx, IfNoneMatch(params.ETag)); err != ErrNotModified {
		t.Error(err)
	}
	must(t, opt.PutParams(ctx, params.Tensors))
	etag, err := opt.ETag(ctx)
	must(t, err)
	if etag == params.ETag {
		t.Error("the epoch is that of before")
	}

	must(t, opt.AddParamGroup(ctx, vector("c", 4), JSON{"lr": 0.25}))
	must(t, opt.AddParamGroup(ctx, vector("d", 4), nil))
	group, err := opt.PatchParamGroup(ctx, 2, JSON{"lr": 0.125, "schedule": JSON{"name": "ExponentialLR", "gamma": 0.5}})
	must(t, err)
	want(t, "group", line(group.LR, group.Schedule["name"], *group.InitialLR), "0.125 ExponentialLR 0.125")
	groups, err := opt.ParamGroups(ctx)
	must(t, err)
	want(t, "groups", line(len(groups), groups[0].WeightDecay, groups[1].Params[0].Data, groups[0].Params[0].DType, groups[0].Betas), "4 0 [1 2] F64 [0.9 0.999]")
	groups, err = opt.ParamGroups(ctx, NoData)
	must(t, err)
	want(t, "data", groups[1].Params[0].Data == nil, true)
	if _, err = opt.PatchParamGroup(ctx, 9, JSON{"lr": 1}); !errors.Is(err, NoSuchGroup) {
		t.Error(err)
	}
	summary, err := opt.Configure(ctx, ClipValue(2), Aggregation(JSON{"mode": "buffered", "size": 2}))
	must(t, err)
	want(t, "aggregation", summary.Aggregation["size"], 2)
	_, err = opt.Step(ctx, vector("c", 1))
	must(t, err)
	round, err := opt.Round(ctx)
	must(t, err)
	want(t, "round", line(round.Mode, round.Gradients, round.Wanted, round.ClosesInMS == nil), "buffered 1 2 true")
	must(t, opt.DropRound(ctx))
	_, err = opt.Configure(ctx, Aggregation(nil), MaxConsecutiveNonFinite(0), Input("gradients"))
	must(t, err)
	_, err = opt.Step(ctx, vector("c", 1))
	must(t, err)
	state, err := opt.State(ctx, "c")
	must(t, err)
	want(t, "state", line(state.Step, state.DType, len(state.ExpAvg.Data), state.MaxExpAvgSq == nil), "1 float32 1 true")
}

func TestLiveStates(t *testing.T) {
	ctx, client, opt := live(t)
	_, err := opt.Create(ctx, vector("w", 0.5, -1), LR(0.1))
	must(t, err)
	_, err = opt.Step(ctx, vector("w", 1, -2))
	must(t, err)
	snapshot, err := opt.Snapshot(ctx)
	must(t, err)
	want(t, "snapshot", snapshot.Step, 1)
	before, err := opt.Digest(ctx)
	must(t, err)
	var file bytes.Buffer
	must(t, opt.WriteStateDict(ctx, &file))
	_, err = opt.Step(ctx, vector("w", 1, -2))
	must(t, err)

	twin, err := opt.Fork(ctx, opt.Name()+"-twin", AtStep(1))
	must(t, err)
	copied := client.Optimizer(twin.Name)
	defer func() { must(t, copied.Delete(ctx)) }()
	same := func(what string, o *Optimizer) {
		t.Helper()
		digest, err := o.Digest(ctx)
		must(t, err)
		want(t, what, digest.Digest, before.Digest)
	}
	same("fork", copied)
	_, err = opt.Rollback(ctx, 1)
	must(t, err)
	same("rollback", opt)
	if _, err := opt.Rollback(ctx, 99); !errors.Is(err, NoSuchStep) {
		t.Error(err)
	}
	_, err = opt.Step(ctx, vector("w", 5, 5))
	must(t, err)
	must(t, opt.PutStateDict(ctx, bytes.NewReader(file.Bytes()), LoadEverything))
	same("loaded", opt)
	state, err := opt.StateDict(ctx)
	must(t, err)
	want(t, "state", line(state.Step, state.Algorithm, len(state.Tensors)), "1 adam 3")
	var again bytes.Buffer
	must(t, WriteSafetensors(&again, state.Tensors, state.Metadata))
	must(t, opt.PutStateDict(ctx, struct{ *strings.Reader }{strings.NewReader(again.String())}, LoadEverything))
	same("loaded again", opt)

	var params, plain bytes.Buffer
	must(t, opt.WriteParams(ctx, &params, As(Float32)))
	tensors, metadata, err := ReadSafetensors(&params)
	must(t, err)
	want(t, "step", metadata["step"], 1)
	must(t, copied.Delete(ctx))
	must(t, WriteSafetensors(&plain, tensors, map[string]string{"optimizer": `{"algorithm": "adamw"}`}))
	summary, err := copied.CreateFrom(ctx, onlyReader{&plain})
	must(t, err)
	want(t, "algorithm", summary.Algorithm, "adamw")
	plain.Reset()
	must(t, WriteSafetensors(&plain, tensors, nil))
	must(t, copied.PutParamsFrom(ctx, &plain))
}

// onlyReader does not know its length.
type onlyReader struct{ r *bytes.Buffer }

func (o onlyReader) Read(p []byte) (int, error) { return o.r.Read(p) }

// Three workers make one step together, one pulls it, one watches it.
func TestLiveRound(t *testing.T) {
	ctx, client, opt := live(t)
	_, err := opt.Create(ctx, vector("w", 1, 2), LR(0.1), Aggregation(JSON{"mode": "sync", "workers": 3, "reduce": "weighted"}))
	must(t, err)
	params, err := opt.Params(ctx)
	must(t, err)
	stream := opt.Events(ctx, After(0))
	defer stream.Close()
	var group sync.WaitGroup
	for i := 0; i < 3; i++ {
		worker := fmt.Sprint("w", i)
		group.Add(1)
		go func() {
			defer group.Done()
			r, err := client.Optimizer(opt.Name()).Step(ctx, vector("w", 3, -1), Worker(worker), BasedOn(0), Weight(2))
			if err != nil {
				t.Error(err)
			} else if w, _ := r.Params.Float32("w"); line(r.Step, w) != "1 [0.9 2.1]" {
				t.Errorf("%s: %d %v", worker, r.Step, w)
			}
		}()
	}
	pulled, err := opt.Params(ctx, Wait(30*time.Second), IfNoneMatch(params.ETag))
	must(t, err)
	want(t, "pulled", pulled.Step, 1)
	group.Wait()
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	want(t, "event", line(stream.Event().ID, stream.Event().Step.Step), "1 1")
	_, err = opt.Step(ctx, vector("w", 3, -1), Worker("w0"), BasedOn(0))
	if !errors.Is(err, RoundClosed) {
		t.Error(err)
	}
	must(t, opt.Delete(ctx))
	if !stream.Next() || stream.Event().Name != "removed" || stream.Next() || stream.Err() != nil {
		t.Error(stream.Event(), stream.Err())
	}
	if _, err := opt.Summary(context.Background()); !errors.Is(err, NoSuchOptimizer) {
		t.Error(err)
	}
}

// A body that is refused before it is sent, and one that is large enough to be asked for.
func TestLiveLarge(t *testing.T) {
	ctx, _, opt := live(t)
	data := make([]float32, 2<<20)
	_, err := opt.Create(ctx, Tensors{NewTensor("w", data)})
	must(t, err)
	r, err := opt.Step(ctx, Tensors{NewTensor("w", data)})
	must(t, err)
	want(t, "elements", r.Params[0].Len(), len(data))
	_, err = opt.client.Optimizer("none").Step(ctx, Tensors{NewTensor("w", data)})
	if !errors.Is(err, NoSuchOptimizer) {
		t.Error(err)
	}
}
