package adamd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// ErrNotModified is what Params gives where the parameters are still those of IfNoneMatch.
var ErrNotModified = errors.New("adamd: the parameters have not changed")

var errTooLong = errors.New("the reply is over the client's limit")

// Problem is a request that the server refused: nothing has changed. It is a problem document
// (RFC 9457). A member that the document does not have is empty, or nil.
//
//	var problem *adamd.Problem
//	if errors.As(err, &problem) && problem.Code == adamd.ShapeMismatch {
//		log.Print(problem.Param, problem.ExpectedShape, problem.GotShape)
//	}
type Problem struct {
	Method, Path string // of the request

	Status int // of the reply
	Type   string
	Code   Code // the end of Type
	Title  string
	Detail string

	Param         string  // the parameter concerned
	Index         *int64  // first offending element, row-major
	ExpectedShape []int64 // not nil, but empty, for a scalar
	GotShape      []int64
	LimitBytes    *int64
	Position      *int64 // byte in the JSON
	Header        string // the request header concerned
	ETag          string // where the optimizer is
	Worker        string
	Step          *int64 // of the optimizer
	Have          *int64 // gradients that a round has
	Quorum        *int64 // gradients that it needs
	BasedOn       *int64 // step whose parameters the gradient was of
	MaxStaleness  *int64

	// RetryAfter is what the reply asks to wait, -1 where it does not.
	RetryAfter time.Duration
	// Members is the whole document, with what this client does not know.
	Members map[string]json.RawMessage
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	return fmt.Sprintf("adamd: %s %s: %d %s: %s", p.Method, p.Path, p.Status, string(p.Code), text)
}

// Is tells whether the target is this problem's code.
func (p *Problem) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == p.Code
}

// newProblem reads a document; nil where it is none. A member of another type than expected, which
// a newer server may have, is left out.
func newProblem(status int, body []byte) *Problem {
	p := &Problem{Status: status, RetryAfter: -1}
	if json.Unmarshal(body, &p.Members) != nil || p.Members == nil {
		return nil
	}
	for name, place := range map[string]any{
		"type": &p.Type, "title": &p.Title, "detail": &p.Detail, "param": &p.Param,
		"header": &p.Header, "etag": &p.ETag, "worker": &p.Worker,
		"index": &p.Index, "limit_bytes": &p.LimitBytes, "position": &p.Position,
		"step": &p.Step, "have": &p.Have, "quorum": &p.Quorum, "based_on": &p.BasedOn,
		"max_staleness": &p.MaxStaleness, "expected_shape": &p.ExpectedShape, "got_shape": &p.GotShape,
	} {
		fill(p.Members[name], place)
	}
	if p.Type == "" {
		p.Type = "about:blank"
	}
	p.Code = Code(p.Type[strings.LastIndexByte(p.Type, ':')+1:])
	return p
}

// fill reads a member into its place, and leaves that alone where it is of another type.
func fill(member json.RawMessage, place any) {
	if member == nil {
		return
	}
	switch place := place.(type) {
	case *string:
		var text string
		if json.Unmarshal(member, &text) == nil {
			*place = text
		}
	case **int64:
		var number *int64
		if json.Unmarshal(member, &number) == nil {
			*place = number
		}
	case *[]int64:
		var shape []int64
		if json.Unmarshal(member, &shape) == nil {
			*place = shape
		}
	}
}

// ReplyError is a reply that is not what adamd sends: a proxy's page, another server at this
// address, or a body that cannot be read. What changes something may have been carried out where
// Status is below 300.
type ReplyError struct {
	Method, URL string
	Status      int
	ContentType string
	Body        []byte // its first bytes, 1000 at most
	Reason      string // what is wrong with it, and what to do

	retryAfter time.Duration
}

func (e *ReplyError) Error() string {
	text := fmt.Sprintf("adamd: %s %s: %d: %s", e.Method, e.URL, e.Status, e.Reason)
	if excerpt := oneLine(e.Body); excerpt != "" {
		text += fmt.Sprintf(" (it begins %q)", excerpt)
	}
	return text
}

// oneLine is the beginning of a body for a message; nothing of one that is no text.
func oneLine(body []byte) string {
	text := strings.Join(strings.Fields(string(body)), " ")
	if strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == '\uFFFD' }) >= 0 {
		return ""
	}
	if len(text) > 100 {
		text = strings.ToValidUTF8(text[:100], "") + "..."
	}
	return text
}

// ConnectionError is a request to which no whole reply came: the server was not reached, or the
// connection was cut off or stood still. Where MaySent, a request that changes something may have
// been carried out all the same. A step has been tried as often as the client may by then; calling
// it again with IdempotencyKey and the same gradients is safe.
type ConnectionError struct {
	Method, URL string
	Tries       int  // how often it was sent, or tried
	MaySent     bool // whether some of it may have reached the server
	// IdempotencyKey is that of the step; empty with any other request.
	IdempotencyKey string
	Err            error // what net/http said
}

// Unwrap gives what net/http said; of a call that its context ended, the context's error.
func (e *ConnectionError) Unwrap() error { return e.Err }

func (e *ConnectionError) Error() string {
	text := fmt.Sprintf("adamd: %s %s: %s", e.Method, e.URL, e.explain())
	if e.Tries > 1 {
		text += fmt.Sprintf("; tried %d times", e.Tries)
	}
	switch {
	case !e.MaySent || safe(e.Method):
	case e.IdempotencyKey != "":
		text += "; the step may have been taken: call it again with IdempotencyKey(" +
			e.IdempotencyKey + ") and the same gradients, and it counts once"
	default:
		text += "; the server may have acted on it: look before you send it again"
	}
	return text
}

// cutError is a reply that ended before its length.
type cutError struct{ got, want int64 }

func (e *cutError) Error() string {
	return fmt.Sprintf("the connection ended after %d of %d bytes of the reply", e.got, e.want)
}

func (e *cutError) Unwrap() error { return io.ErrUnexpectedEOF }

// stallError is a connection on which nothing moved.
type stallError struct{ after time.Duration }

func (e *stallError) Error() string {
	return fmt.Sprintf("no byte came or went for %v: the server, or the way to it, stands still; "+
		"WithStallTimeout allows for more", e.after)
}

func (e *stallError) Timeout() bool { return true }

// partialError is a reply of which a part has been written to where it cannot be taken back, so that
// it is not asked for again.
type partialError struct {
	err     error
	written int64
}

func (e *partialError) Error() string {
	return fmt.Sprintf("%v; %d bytes of it were written, which are not whole", e.err, e.written)
}

func (e *partialError) Unwrap() error { return e.err }

// explain is what happened and what to do, in words.
func (e *ConnectionError) explain() string {
	err := e.Err
	var (
		dns    *net.DNSError
		cut    *cutError
		stall  *stallError
		record tls.RecordHeaderError
		timed  net.Error
	)
	switch {
	case errors.As(err, &cut):
		return cut.Error()
	case errors.As(err, &stall):
		return stall.Error()
	case errors.Is(err, context.Canceled):
		return "the call was cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return "the time of the call was over"
	case errors.As(err, &dns):
		return fmt.Sprintf("the host name %q cannot be looked up (%s): check the URL", dns.Name, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: is adamd running at this address?"
	case errors.As(err, &record) || strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "the server speaks no TLS: use http:// in the URL"
	case errors.As(err, &timed) && timed.Timeout():
		return fmt.Sprintf("the server did not answer in time (%v): check the address, and the way to it", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before a reply came"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset before a whole reply came"
	}
	return err.Error()
}
