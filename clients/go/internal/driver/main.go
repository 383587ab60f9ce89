// Driver is the client's part in clients/conformance: calls as lines of JSON in, what they gave as
// lines of JSON out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	adamd "github.com/adamd/adamd/clients/go"
)

type object = map[string]any

// call is a line of the stage's.
type call struct {
	Op        string            `json:"op"`
	Optimizer string            `json:"optimizer"`
	Options   options           `json:"options"`
	Grads     map[string]tensor `json:"grads"`
	Params    map[string]tensor `json:"params"`
	File      string            `json:"file"`
}

// driver is the client that the stage has asked for, and the time that each call has.
type driver struct {
	client   *adamd.Client
	deadline time.Duration
}

func (d *driver) begin(o options) error {
	choices := []adamd.Option{}
	if o.has("timeout_ms") {
		choices = append(choices, adamd.WithStallTimeout(time.Duration(o.int("timeout_ms"))*time.Millisecond))
	}
	if o.has("retries") {
		choices = append(choices, adamd.WithRetries(int(o.int("retries"))))
	}
	d.deadline = time.Duration(o.int("deadline_ms")) * time.Millisecond
	if d.client != nil {
		d.client.Close()
	}
	var err error
	d.client, err = adamd.New(o.text("url"), choices...)
	return err
}

func (d *driver) run(c *call) (object, error) {
	if c.Op == "client" {
		return object{}, d.begin(c.Options)
	}
	ctx := context.Background()
	if d.deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.deadline)
		defer cancel()
	}
	if op, ok := clientOps[c.Op]; ok {
		return op(ctx, d.client, c)
	}
	if op, ok := ops[c.Op]; ok {
		return op(ctx, d.client.Optimizer(c.Optimizer), c)
	}
	return nil, errUnknown
}

var errUnknown = errors.New("unknown")

// answer is what a call gave, as the stage takes it.
func (d *driver) answer(line string) object {
	var c call
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.UseNumber()
	if err := decoder.Decode(&c); err != nil {
		return object{"error": object{"kind": "argument", "message": fmt.Sprintf("the line %q: %v", line, err)}}
	}
	if name := unknownOption(&c); name != "" {
		return object{"unknown": c.Op + ": " + name}
	}
	result, err := d.run(&c)
	switch {
	case err == errUnknown:
		return object{"unknown": c.Op}
	case err != nil:
		return object{"error": explain(err)}
	}
	return object{"ok": result}
}

// explain is an error's kind and members.
func explain(err error) object {
	var problem *adamd.Problem
	var reply *adamd.ReplyError
	var connection *adamd.ConnectionError
	said := object{"message": err.Error()}
	switch {
	case errors.As(err, &problem):
		said["kind"], said["status"] = "problem", problem.Status
		said["type"], said["code"] = problem.Type, string(problem.Code)
		said["title"], said["detail"] = problem.Title, problem.Detail
		said["etag"], said["members"] = problem.ETag, members(problem)
		if problem.RetryAfter >= 0 {
			said["retry_after"] = problem.RetryAfter.Seconds()
		}
	case errors.As(err, &reply) && reply.Status >= 300:
		said["kind"], said["status"] = "status", reply.Status
	case errors.As(err, &reply):
		said["kind"], said["status"] = "protocol", reply.Status
	case errors.As(err, &connection):
		said["kind"] = "connection"
	default:
		said["kind"] = "argument"
	}
	return said
}

// members are the document's, those that have a field of their own out of that.
func members(p *adamd.Problem) object {
	all := object{}
	for name, member := range p.Members {
		all[name] = member
	}
	for name, number := range map[string]*int64{
		"index": p.Index, "limit_bytes": p.LimitBytes, "position": p.Position, "step": p.Step,
		"have": p.Have, "quorum": p.Quorum, "based_on": p.BasedOn, "max_staleness": p.MaxStaleness,
	} {
		if number != nil {
			all[name] = *number
		}
	}
	for name, text := range map[string]string{"param": p.Param, "header": p.Header, "worker": p.Worker} {
		if text != "" {
			all[name] = text
		}
	}
	for name, shape := range map[string][]int64{"expected_shape": p.ExpectedShape, "got_shape": p.GotShape} {
		if shape != nil {
			all[name] = shape
		}
	}
	return all
}

// plain is a number as JSON has it: those that are not finite as words.
func plain(value float64) any {
	switch {
	case math.IsNaN(value):
		return "NaN"
	case math.IsInf(value, 1):
		return "Infinity"
	case math.IsInf(value, -1):
		return "-Infinity"
	}
	return value
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	d := &driver{}
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return
		}
		if err == nil {
			err = out.Encode(d.answer(line))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
