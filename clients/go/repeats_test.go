package adamd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

const busy = `{"type": "urn:adamd:problem:busy", "title": "Busy", "status": 503, "detail": "too much in flight"}`

// Wherever a reply breaks off, the same is sent again with the same key.
func TestStepWhereverItBreaks(t *testing.T) {
	whole := stepped()
	head := strings.Index(whole, "\r\n\r\n")
	for cut := 0; cut < len(whole); cut++ {
		if cut > 20 && cut < head-4 && cut%7 > 0 {
			continue
		}
		if cut > head+20 && cut < len(whole)-20 && cut%17 > 0 {
			continue
		}
		server := play(t, whole[:cut], whole)
		opt, waits := server.client(t)
		result, err := opt.Step(context.Background(), grads)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		requests := server.seen()
		if len(requests) != 2 || requests[0] != requests[1] || len(*waits) != 1 {
			t.Fatalf("cut at %d: %q", cut, requests)
		}
		want(t, "step", result.Step, 1)
		want(t, "length of the key", len(server.keys()[0]), 32)
	}
}

func TestStepIsNotHeldUp(t *testing.T) {
	server := play(t, stepped()[:200], stepped())
	server.stall = 10 * time.Second
	opt, _ := server.client(t, WithStallTimeout(200*time.Millisecond))
	begun := time.Now()
	_, err := opt.Step(context.Background(), grads)
	must(t, err)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestRetryAfter(t *testing.T) {
	server := play(t, problemOf("503 Service Unavailable", busy, "Retry-After: 7"), replyOf("503 X", "text/html", "<p>", "Retry-After: 0"), stepped())
	opt, waits := server.client(t)
	_, err := opt.Step(context.Background(), grads)
	must(t, err)
	if len(*waits) != 2 || (*waits)[0] < 7*time.Second || (*waits)[0] > 7100*time.Millisecond || (*waits)[1] > 200*time.Millisecond {
		t.Errorf("waits %v", *waits)
	}
}

// No other reply is followed by a repeat.
func TestNoOtherReply(t *testing.T) {
	for status, line := range map[string]string{
		"503 A": "X: y", "503 B": "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", "503 C": "Retry-After: 3600",
		"429 D": "Retry-After: 0", "409 E": "X: y", "412 F": "X: y", "413 G": "X: y", "507 H": "Retry-After: 0", "500 I": "X: y",
	} {
		server := play(t, problemOf(status, busy, line), stepped())
		opt, _ := server.client(t)
		_, err := opt.Step(context.Background(), grads)
		var problem *Problem
		if !errors.As(err, &problem) || len(server.seen()) != 1 {
			t.Errorf("%s: %v after %d requests", status, err, len(server.seen()))
		}
	}
}

func TestWaitsAndTheirEnd(t *testing.T) {
	limits := []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000}
	for _, most := range []int{0, 3, 8} {
		server := play(t)
		opt, waits := server.client(t, WithRetries(most))
		_, err := opt.Step(context.Background(), grads)
		var lost *ConnectionError
		if !errors.As(err, &lost) || !lost.MaySent || lost.Tries != most+1 || lost.IdempotencyKey != server.keys()[0] {
			t.Fatalf("%v", err)
		}
		if !strings.Contains(err.Error(), "IdempotencyKey("+lost.IdempotencyKey) {
			t.Errorf("%v does not say what to do", err)
		}
		want(t, "requests", len(server.seen()), most+1)
		want(t, "waits", len(*waits), most)
		for i, wait := range *waits {
			if wait < 0 || wait >= limits[i]*time.Millisecond {
				t.Errorf("wait %d is %v", i, wait)
			}
		}
	}
}

func TestWhatReads(t *testing.T) {
	groups := replyOf("200 OK", "application/json", "[]")
	server := play(t, groups[:30], problemOf("503 X", busy, "Retry-After: 0"), groups)
	opt, waits := server.client(t)
	found, err := opt.ParamGroups(context.Background())
	must(t, err)
	want(t, "groups", found, []Group{})
	want(t, "waits", len(*waits), 2)
}

func TestWhatWritesIsSentOnce(t *testing.T) {
	server := play(t)
	opt, waits := server.client(t)
	ctx := context.Background()
	_, create := opt.Create(ctx, grads)
	_, from := opt.CreateFrom(ctx, strings.NewReader("x"))
	_, configure := opt.Configure(ctx, ClipValue(1))
	_, patch := opt.PatchParamGroup(ctx, 0, JSON{"lr": 1})
	_, snapshot := opt.Snapshot(ctx)
	_, rollback := opt.Rollback(ctx, 1)
	_, fork := opt.Fork(ctx, "f")
	calls := []error{
		create, from, configure, patch, snapshot, rollback, fork,
		opt.PutParams(ctx, grads), opt.PutStateDict(ctx, strings.NewReader("x"), LoadParams),
		opt.AddParamGroup(ctx, grads, nil), opt.DropRound(ctx), opt.RemoveWorker(ctx, "a"), opt.Delete(ctx),
	}
	for i, err := range calls {
		var lost *ConnectionError
		if !errors.As(err, &lost) || !strings.Contains(err.Error(), "may have acted") {
			t.Errorf("call %d: %v", i, err)
		}
	}
	want(t, "requests", len(server.seen()), len(calls))
	want(t, "waits", len(*waits), 0)
	want(t, "keys", strings.Join(server.keys(), ""), "")
}

// The deadline of the context is not waited past, and ends a reply that does not come.
func TestDeadline(t *testing.T) {
	server := play(t, problemOf("503 X", busy, "Retry-After: 30"))
	opt, waits := server.client(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := opt.Step(ctx, grads); !errors.Is(err, Busy) || len(*waits) != 0 {
		t.Errorf("%v after %v", err, *waits)
	}
	server = play(t)
	server.stall = 10 * time.Second
	opt, _ = server.client(t)
	short, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := opt.Step(short, grads)
	var lost *ConnectionError
	if !errors.As(err, &lost) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
		t.Errorf("%v", err)
	}
}

func TestCancelled(t *testing.T) {
	server := play(t)
	server.stall = 10 * time.Second
	opt, _ := server.client(t)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := opt.Step(ctx, grads); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := opt.Summary(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestNotReached(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listener.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	for url, text := range map[string]string{
		"http://" + listener.Addr().String():        "connection refused: is adamd running",
		"http://no-such-host.invalid:1":             `the host name "no-such-host.invalid" cannot be looked up`,
		"https://" + plain.Listener.Addr().String(): "http:// in the URL",
	} {
		client, err := New(url, WithRetries(0))
		must(t, err)
		err = client.Optimizer("m").Delete(context.Background())
		if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), url) {
			t.Errorf("%v, expected %q", err, text)
		}
	}
}

// What has been written is taken back where that can be, and otherwise not asked for again.
func TestStreamsAndTheirRepeats(t *testing.T) {
	whole := replyOf("200 OK", mediaSafetensors, strings.Repeat("abcd", 1000))
	cut := whole[:len(whole)-10]
	ctx := context.Background()
	var buffer bytes.Buffer
	buffer.WriteString("before")
	opt, _ := play(t, cut, whole).client(t)
	must(t, opt.WriteStateDict(ctx, &buffer))
	want(t, "length", buffer.Len(), 6+4000)

	file, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	defer file.Close()
	opt, _ = play(t, cut, cut, whole).client(t)
	must(t, opt.WriteParams(ctx, file))
	size, err := file.Seek(0, io.SeekEnd)
	must(t, err)
	want(t, "size", size, 4000)

	server := play(t, cut, whole)
	opt, _ = server.client(t)
	err = opt.WriteStateDict(ctx, struct{ io.Writer }{&buffer})
	var lost *ConnectionError
	if !errors.As(err, &lost) || !strings.Contains(err.Error(), "3990 bytes of it were written") {
		t.Errorf("%v", err)
	}
	server = play(t, whole[:20], whole)
	opt, _ = server.client(t)
	must(t, opt.WriteStateDict(ctx, struct{ io.Writer }{io.Discard}))
	want(t, "requests", len(server.seen()), 2)
}
