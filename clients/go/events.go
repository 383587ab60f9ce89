package adamd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxEvent is the longest line of an event: a record of 4096 param groups is shorter.
const maxEvent = 16 << 20

// Event is something that happened to an optimizer.
type Event struct {
	Name string // "step", "skipped", "gap", "removed", or a newer server's
	ID   int64  // of a step: where to go on from; -1 without one
	Data json.RawMessage

	// Step is the record of a "step" or "skipped", else nil.
	Step *StepRecord
}

// EventOption is a choice of Events.
type EventOption func(*EventStream)

// After begins with what came after the event of this ID, as far as the server's history has it; an
// event "gap" comes first where that is not all. Without it the stream begins with the next step.
func After(id int64) EventOption { return func(s *EventStream) { s.last = id } }

// EventStream is an optimizer's events, one after the other:
//
//	stream := opt.Events(ctx)
//	defer stream.Close()
//	for stream.Next() {
//		fmt.Println(stream.Event().Step.Norms.Grad)
//	}
//	return stream.Err()
//
// Where the connection ends, it is made again and goes on after the last event that came, with the
// waits and as often as Client says; the count begins anew with each event. A step that was left out
// has no ID, and may then come twice. One goroutine at a time may use a stream.
type EventStream struct {
	optimizer *Optimizer
	ctx       context.Context
	cancel    context.CancelFunc
	last      int64 // -1: not known
	exchange  *exchange
	lines     *bufio.Reader
	event     Event
	err       error
	done      bool
}

// Events is the stream of the optimizer's events. The first Next connects.
func (o *Optimizer) Events(ctx context.Context, options ...EventOption) *EventStream {
	s := &EventStream{optimizer: o, last: -1}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for _, option := range options {
		option(s)
	}
	s.err = o.check()
	return s
}

// Event is what Next found.
func (s *EventStream) Event() Event { return s.event }

// Err is why Next gave false; nil after "removed" and after Close.
func (s *EventStream) Err() error { return s.err }

// Close ends the stream.
func (s *EventStream) Close() {
	s.done = true
	s.disconnect()
	s.cancel()
}

func (s *EventStream) disconnect() {
	if s.exchange != nil {
		s.exchange.end()
	}
	s.exchange = nil
}

// Next waits for the next event. False at the end: the optimizer was removed, or Err tells.
func (s *EventStream) Next() bool {
	if s.done || s.err != nil {
		return false
	}
	s.err = s.optimizer.client.repeat(s.ctx, true, func(try int) error {
		err := s.connect(try)
		if err == nil {
			err = s.read(try)
		}
		if err != nil {
			s.disconnect()
		}
		return err
	})
	if s.err != nil {
		return false
	}
	if s.event.Name == "removed" {
		s.Close()
	}
	return true
}

// connect makes the connection where there is none.
func (s *EventStream) connect(try int) error {
	if s.exchange != nil {
		return nil
	}
	r := s.optimizer.get("/events")
	r.accept = "text/event-stream"
	if s.last >= 0 {
		r.header.Set("Last-Event-ID", strconv.FormatInt(s.last, 10))
	}
	x, err := s.optimizer.client.begin(s.ctx, &r, try)
	if err != nil {
		return err
	}
	if x.response.StatusCode >= 300 {
		err = x.refusal(s.ctx)
	} else if media := mediaType(x.response.Header); x.response.StatusCode != http.StatusOK || media != r.accept {
		err = x.unexpected(fmt.Sprintf("the reply is of type %q, expected %s", media, r.accept), nil)
	}
	if err != nil {
		x.end()
		return err
	}
	if _, step, err := splitETag(x.response.Header.Get("ETag")); err == nil && s.last < 0 {
		s.last = step // so that what comes while a connection is made again is not missed
	}
	s.exchange = x
	s.lines = bufio.NewReaderSize(&incoming{x}, 64<<10)
	return nil
}

// read finds the next event on the connection. What is cut off at the end is none.
func (s *EventStream) read(try int) error {
	s.exchange.try = try
	fields := map[string]string{}
	for {
		line, err := s.line()
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		if line == "" {
			if _, ok := fields["data"]; ok {
				return s.take(fields)
			}
			fields = map[string]string{}
		} else if before, ok := fields[name]; ok && name == "data" {
			fields[name] = before + "\n" + value
		} else if name != "" { // else a comment
			fields[name] = value
		}
	}
}

func (s *EventStream) line() (string, error) {
	var line []byte
	for {
		piece, err := s.lines.ReadSlice('\n')
		line = append(line, piece...)
		if len(line) > maxEvent {
			return "", s.exchange.unexpected(fmt.Sprintf("an event of more than %d bytes", maxEvent), nil)
		}
		switch {
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case s.ctx.Err() != nil:
			return "", s.exchange.fail(s.ctx.Err())
		case err == io.EOF:
			return "", s.exchange.fail(errors.New("the stream of events ended: the server stopped, or events were not taken in time"))
		default:
			return "", s.exchange.fail(err)
		}
	}
}

func (s *EventStream) take(fields map[string]string) error {
	event := Event{Name: fields["event"], ID: -1, Data: json.RawMessage(fields["data"])}
	if id, err := strconv.ParseInt(fields["id"], 10, 64); err == nil {
		event.ID, s.last = id, id
	}
	if event.Name == "step" || event.Name == "skipped" {
		event.Step = new(StepRecord)
		if err := json.Unmarshal(event.Data, event.Step); err != nil {
			return s.exchange.unexpected(fmt.Sprintf("an event that cannot be read: %v", err), event.Data)
		}
	}
	s.event = event
	return nil
}
