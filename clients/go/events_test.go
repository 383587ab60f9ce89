package adamd

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func streamOf(body string) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nETag: \"e1-s4\"\r\nConnection: close\r\n\r\n" + body
}

// A stream goes on after the last event that came, or after the step at which it began.
func TestEventsAreResumed(t *testing.T) {
	server := play(t,
		streamOf(": hello\nretry: 10\n\nid: 5\nevent: st"),
		streamOf("id: 5\nevent: step\ndata: {\"step\": 5,\ndata: \"grad_norm\": \"Infinity\"}\n\n"),
		replyOf("503 X", "text/html", "", "Retry-After: 0"),
		streamOf("id: 6\r\nnew: 1\r\nevent: step\r\ndata: {\"step\": 6}\r\n\r\nevent: skipped\ndata: {\"step\": 6, \"skipped\": true}\n\nevent: tomorrow\ndata: 1\n\n"),
		streamOf("event: gap\ndata: {\"first_step\": 9}\n\nevent: removed\ndata: {}\n\n"))
	opt, waits := server.client(t)
	stream := opt.Events(context.Background())
	got := []string{}
	for stream.Next() {
		event := stream.Event()
		got = append(got, line(event.Name, event.ID, event.Step != nil))
	}
	must(t, stream.Err())
	want(t, "events", strings.Join(got, ", "), "step 5 true, step 6 true, skipped -1 true, tomorrow -1 false, gap -1 false, removed -1 false")
	want(t, "waits", len(*waits), 4)
	for i, last := range []string{"", "4", "5", "5", "6"} {
		_, after, _ := strings.Cut(server.seen()[i], "Last-Event-Id: ")
		after, _, _ = strings.Cut(after, "\r\n")
		want(t, "Last-Event-ID", after, last)
	}
	if stream.Next() {
		t.Error("an event after the end")
	}
}

func TestEventsThatEnd(t *testing.T) {
	server := play(t)
	opt, waits := server.client(t, WithRetries(2))
	stream := opt.Events(context.Background(), After(7))
	var lost *ConnectionError
	if stream.Next() || !errors.As(stream.Err(), &lost) || len(*waits) != 2 {
		t.Error(stream.Err(), *waits)
	}
	opt, _ = play(t, problemOf("404 X", `{"type": "urn:adamd:problem:no-such-optimizer"}`)).client(t)
	if stream = opt.Events(context.Background()); stream.Next() || !errors.Is(stream.Err(), NoSuchOptimizer) {
		t.Error(stream.Err())
	}
	opt, _ = play(t, streamOf("event: step\ndata: []\n\n")).client(t)
	var odd *ReplyError
	if stream = opt.Events(context.Background()); stream.Next() || !errors.As(stream.Err(), &odd) {
		t.Error(stream.Err())
	}
	stream = opt.Events(context.Background())
	stream.Close()
	if stream.Next() || stream.Err() != nil {
		t.Error(stream.Err())
	}
}
