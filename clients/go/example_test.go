package adamd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	adamd "github.com/adamd/adamd/clients/go"
)

var ctx = context.Background()

// created is a handle on a new optimizer "mlp" with one parameter "w".
func created(options ...adamd.CreateOption) *adamd.Optimizer {
	client, err := adamd.New(adamd.TestURL)
	if err != nil {
		log.Fatal(err)
	}
	opt := client.Optimizer("mlp")
	_ = opt.Delete(ctx)
	if _, err := opt.Create(ctx, adamd.Tensors{adamd.NewTensor("w", []float32{1, 2})}, options...); err != nil {
		log.Fatal(err)
	}
	return opt
}

func ExampleOptimizer_Create() {
	client, err := adamd.New(adamd.TestURL)
	if err != nil {
		log.Fatal(err)
	}
	opt := client.Optimizer("two-groups")
	defer opt.Delete(ctx)
	params := adamd.Tensors{
		adamd.NewTensor("weight", []float32{1, 2, 3, 4, 5, 6}, 3, 2),
		adamd.NewTensor("bias", []float32{0, 0, 0}),
	}
	summary, err := opt.Create(ctx, params,
		adamd.Algorithm("adamw"), adamd.LR(0.01), adamd.MaxGradNorm(1),
		adamd.ParamGroups(
			adamd.JSON{"params": []string{"weight"}},
			adamd.JSON{"params": adamd.JSON{"regex": "bias$"}, "weight_decay": 0},
		))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.Algorithm, summary.ParamGroups, summary.NumEl)
	// Output: adamw 2 9
}

func ExampleOptimizer_Step() {
	opt := created(adamd.LR(0.5))
	defer opt.Delete(ctx)
	grad := []float32{3, -1}
	result, err := opt.Step(ctx, adamd.Tensors{adamd.NewTensor("w", grad)},
		adamd.Worker("one"), adamd.MaxGradNorm(1))
	if err != nil {
		log.Fatal(err)
	}
	w, err := result.Params.Float32("w")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Step, w)
	// Output: 1 [0.5 2.5]
}

func ExampleOptimizer_Params() {
	opt := created()
	defer opt.Delete(ctx)
	params, err := opt.Params(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// The next ones, as soon as they are there, but within a second.
	_, err = opt.Params(ctx, adamd.IfNoneMatch(params.ETag), adamd.Wait(time.Second))
	fmt.Println(params.Step, errors.Is(err, adamd.ErrNotModified))
	// Output: 0 true
}

func ExampleOptimizer_WriteStateDict() {
	opt := created()
	defer opt.Delete(ctx)
	var file bytes.Buffer // or an *os.File
	if err := opt.WriteStateDict(ctx, &file); err != nil {
		log.Fatal(err)
	}
	if err := opt.PutStateDict(ctx, &file, adamd.LoadEverything); err != nil {
		log.Fatal(err)
	}
	// Output:
}

func ExampleOptimizer_Events() {
	opt := created()
	defer opt.Delete(ctx)
	stream := opt.Events(ctx, adamd.After(0))
	defer stream.Close()
	grads := adamd.Tensors{adamd.NewTensor("w", []float32{3, 4})}
	if _, err := opt.Step(ctx, grads); err != nil {
		log.Fatal(err)
	}
	if stream.Next() { // usually a loop
		event := stream.Event()
		fmt.Println(event.Name, event.ID, event.Step.Norms.Grad)
	}
	if err := stream.Err(); err != nil {
		log.Fatal(err)
	}
	// Output: step 1 5
}

func ExampleProblem() {
	opt := created()
	defer opt.Delete(ctx)
	_, err := opt.Step(ctx, adamd.Tensors{adamd.NewTensor("w", []float32{1, 2, 3})})
	var problem *adamd.Problem
	if errors.As(err, &problem) {
		fmt.Println(problem.Status, problem.Param, problem.ExpectedShape, problem.GotShape)
	}
	fmt.Println(errors.Is(err, adamd.ShapeMismatch))
	// Output:
	// 422 w [2] [3]
	// true
}

func ExampleValues() {
	half := adamd.NewTensor16("half", adamd.BFloat16, []uint16{0x3f80, 0xc000})
	bits, err := adamd.Values[uint16](half)
	fmt.Printf("%#04x %v\n", bits, err)
	// Output: [0x3f80 0xc000] <nil>
}
