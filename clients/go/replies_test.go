package adamd

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestStepRequest(t *testing.T) {
	server := play(t, stepped(), stepped())
	opt, _ := server.client(t)
	ctx := context.Background()
	_, err := opt.Step(ctx, grads, Worker("a/1"), Weight(0.1), BasedOn(1<<53), IfMatch(`"e1-s1"`), IdempotencyKey("k-1"),
		GroupChanges(JSON{"lr": 0.5}, JSON{}), As(BFloat16), GradScale(65536), NonFiniteGrads("skip"),
		MaxGradNorm(math.Inf(1)), NormType(math.Inf(1)), ErrorIfNonFinite(true), ClipValue(0.5))
	must(t, err)
	_, err = opt.Step(ctx, grads)
	must(t, err)
	requests := server.seen()
	for _, text := range []string{
		"POST /v1/optimizers/m/step?dtype=bf16\r\n", "Adam-Worker: a/1\r\n", "Adam-Weight: 0.1\r\n",
		"Adam-Based-On: 9007199254740992\r\n", "If-Match: \"e1-s1\"\r\n", "Idempotency-Key: k-1\r\n",
		`"grad_scale":"65536","nonfinite":"skip","max_grad_norm":"null","norm_type":"inf","error_if_nonfinite":"true","clip_value":"0.5"`,
		`"param_groups":"[{\"lr\":0.5},{}]"`, `"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`,
	} {
		if !strings.Contains(requests[0], text) {
			t.Errorf("no %q in %q", text, requests[0])
		}
	}
	for _, text := range []string{"Adam-", "If-Match", "Prefer", "__metadata__", "step?"} {
		if strings.Contains(requests[1], text) {
			t.Errorf("%q in %q", text, requests[1])
		}
	}
}

func TestNothingIsSent(t *testing.T) {
	server := play(t)
	opt, _ := server.client(t)
	ctx := context.Background()
	for i, call := range []func() error{
		func() error { _, err := opt.Step(ctx, grads, Worker("")); return err },
		func() error { _, err := opt.Step(ctx, grads, Worker("a b")); return err },
		func() error { _, err := opt.Step(ctx, grads, IdempotencyKey(strings.Repeat("k", 129))); return err },
		func() error { _, err := opt.Step(ctx, grads, IdempotencyKey("é")); return err },
		func() error { _, err := opt.Step(ctx, grads, GradScale(math.NaN())); return err },
		func() error { _, err := opt.Step(ctx, grads, GroupChanges(JSON{"lr": math.Inf(1)})); return err },
		func() error { _, err := opt.Params(ctx, Wait(time.Millisecond)); return err },
		func() error { _, err := opt.Param(ctx, ""); return err },
		func() error { _, err := opt.client.Optimizer("").Summary(ctx); return err },
		func() error { return opt.client.Optimizer("").Delete(ctx) },
		func() error { _, err := New("127.0.0.1:2326"); return err },
		func() error { _, err := New("http://user@host"); return err },
		func() error { _, err := New("http://host", WithRetries(-1)); return err },
	} {
		if err := call(); err == nil || !strings.HasPrefix(err.Error(), "adamd: ") {
			t.Errorf("call %d: %v", i, err)
		}
	}
	want(t, "requests", len(server.seen()), 0)
}

func TestStepReply(t *testing.T) {
	held := strings.Replace(stepped(pair{"pending", "3"}), "200 OK", "202 Accepted", 1)
	replayed := strings.Replace(stepped(), "ETag", "Idempotent-Replayed: true\r\nETag", 1)
	minimal := "HTTP/1.1 204 No Content\r\nETag: \"e7-s9\"\r\n\r\n"
	heldMinimal := "HTTP/1.1 202 Accepted\r\nETag: \"e7-s9\"\r\nContent-Length: 0\r\n\r\n"
	opt, _ := play(t, held, replayed, minimal, heldMinimal).client(t)
	ctx := context.Background()
	r, err := opt.Step(ctx, grads)
	must(t, err)
	want(t, "held", line(r.Pending, r.Step, r.Epoch, r.ETag, r.Converted, r.Skipped, r.Replayed, r.Norms, len(r.Groups)),
		`3 1 7 "e7-s1" 2 false false {NaN +Inf 1e-08 1} 1`)
	r, err = opt.Step(ctx, grads)
	must(t, err)
	want(t, "replayed", line(r.Replayed, r.Pending), "true 0")
	r, err = opt.Step(ctx, grads, Minimal())
	must(t, err)
	want(t, "minimal", line(r.Step, r.Epoch, r.Pending, r.Params == nil, r.Norms.Grad), "9 7 0 true NaN")
	r, err = opt.Step(ctx, grads, Minimal())
	must(t, err)
	want(t, "held", r.Pending, 1)
}

func TestProblem(t *testing.T) {
	body := `{"type": "urn:adamd:problem:tomorrow", "title": "T", "status": 422, "detail": "what", "param": "w", "index": 5,
		"expected_shape": [], "got_shape": [3, 2], "limit_bytes": 7, "position": 8, "header": "H", "worker": "a", "step": 9,
		"have": 1, "quorum": 2, "based_on": 3, "max_staleness": "four", "new": {"x": [null]}}`
	opt, _ := play(t, problemOf("422 X", body, `ETag: "e1-s9"`, "Retry-After: 3")).client(t)
	_, err := opt.Step(context.Background(), grads)
	var p *Problem
	if !errors.As(err, &p) || !errors.Is(err, Code("tomorrow")) || errors.Is(err, Stale) {
		t.Fatal(err)
	}
	want(t, "problem", line(p.Status, string(p.Code), p.Title, p.Detail, p.Param, *p.Index, p.ExpectedShape, p.GotShape, *p.LimitBytes,
		*p.Position, p.Header, p.ETag, p.Worker, *p.Step, *p.Have, *p.Quorum, *p.BasedOn, p.MaxStaleness, p.RetryAfter),
		`422 tomorrow T what w 5 [] [3 2] 7 8 H "e1-s9" a 9 1 2 3 <nil> 3s`)
	want(t, "new member", string(p.Members["new"]), `{"x": [null]}`)
	want(t, "message", err, "adamd: POST /v1/optimizers/m/step: 422 tomorrow: what")
}

// What is no problem document says what it is, and what to do.
func TestOddReplies(t *testing.T) {
	for text, reply := range map[string]string{
		"a proxy (it begins \"<h1>Bad":    replyOf("502 Bad Gateway", "text/html", "<h1>Bad\n gateway</h1>"),
		"no problem document":             problemOf("400 X", "[1]"),
		"500: no problem":                 problemOf("500 X", "\xff\xfe\x00"),
		`redirect to "http://elsewhere/"`: replyOf("307 X", "text/html", "", "Location: http://elsewhere/"),
		"is it adamd that answers":        replyOf("200 OK", "text/html", "<p>log in", `ETag: "e1-s1"`),
		"cannot be read":                  replyOf("200 OK", mediaSafetensors, "short", `ETag: "e1-s1"`),
		"step is \"\"":                    replyOf("200 OK", mediaSafetensors, string(file("{}", 0)), `ETag: "e1-s1"`),
		"the reply's ETag is \"\"":        strings.Replace(stepped(), "ETag", "X", 1),
		"WithMaxReply":                    replyOf("200 OK", mediaSafetensors, strings.Repeat("x", 5000)),
	} {
		server := play(t, reply)
		opt, _ := server.client(t, WithMaxReply(4000))
		_, err := opt.Step(context.Background(), grads)
		var odd *ReplyError
		if !errors.As(err, &odd) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, expected %q", err, text)
		}
		want(t, "requests", len(server.seen()), 1)
	}
}

func TestReadingParams(t *testing.T) {
	unchanged := "HTTP/1.1 304 Not Modified\r\nETag: \"e7-s1\"\r\nContent-Length: 70\r\n\r\n"
	server := play(t, unchanged, stepped())
	opt, _ := server.client(t)
	ctx := context.Background()
	if _, err := opt.Params(ctx, IfNoneMatch(`"e7-s1"`)); err != ErrNotModified {
		t.Error(err)
	}
	params, err := opt.Params(ctx, Wait(30*time.Second), As(Float32))
	must(t, err)
	want(t, "params", line(params.Step, params.ETag, len(params.Tensors)), `1 "e7-s1" 1`)
	if request := server.seen()[1]; !strings.HasPrefix(request, "GET /v1/optimizers/m/params?dtype=f32&wait=30\r\n") {
		t.Error(request)
	}
}

// The caller's client is used as it is, and its redirects are not followed.
func TestInjectedClient(t *testing.T) {
	server := play(t, replyOf("302 X", "text/html", "", "Location: /"), replyOf("200 OK", "application/json", `{"name": "adamd"}`))
	calls := 0
	own := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		calls++
		return http.DefaultTransport.RoundTrip(r)
	})}
	client, err := New(server.url()+"/", WithHTTPClient(own))
	must(t, err)
	if _, err := client.Server(context.Background()); err == nil {
		t.Error("a redirect was followed")
	}
	_, err = client.Server(context.Background())
	must(t, err)
	want(t, "calls", calls, 2)
	if own.CheckRedirect != nil {
		t.Error("the caller's client was changed")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// When Step returns, the gradients are the caller's again, even where the reply came early.
func TestGradientsAreNotReadLater(t *testing.T) {
	early := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		body := r.Body
		go func() {
			for {
				time.Sleep(time.Millisecond)
				if _, err := body.Read(make([]byte, 16)); err != nil {
					return
				}
			}
		}()
		return &http.Response{StatusCode: 413, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})}
	client, err := New("http://127.0.0.1:1", WithHTTPClient(early))
	must(t, err)
	data := make([]float32, 10000)
	for n := 0; n < 20; n++ { // under -race
		_, _ = client.Optimizer("m").Step(context.Background(), Tensors{NewTensor("w", data)})
		for i := range data {
			data[i]++
		}
	}
}
