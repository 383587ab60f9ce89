package adamd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	mediaSafetensors = "application/vnd.safetensors"
	mediaJSON        = "application/json"
	mediaMerge       = "application/merge-patch+json"

	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
	// A server that asks for more is given up.
	longestRetryAfter = 60 * time.Second
	// Bodies of more bytes are sent when the server has said 100 Continue.
	askFirst = 1 << 20
	// Bytes of a reply that is no success, and of a page that is not adamd's.
	maxProblem = 1 << 20
	excerpt    = 1000
)

// request is what a call sends.
type request struct {
	method, path string // with its query, behind the client's base
	header       http.Header
	contentType  string
	parts        [][]byte  // the body
	stream       io.Reader // or this, of size bytes: it can be read but once
	size         int64
	accept       string
	longer       time.Duration // for which the reply may be held back
}

// safe tells whether a method only reads.
func safe(method string) bool { return method == "GET" || method == "HEAD" }

func (r *request) repeats() bool {
	return (safe(r.method) || r.key() != "") && r.stream == nil
}

func (r *request) key() string { return r.header.Get("Idempotency-Key") }

// call sends a request and reads its reply, with the repeats that Client describes. A reply of 300
// and above, but 304, is an error.
func (c *Client) call(ctx context.Context, r request) (*reply, error) {
	var whole *reply
	err := c.repeat(ctx, r.repeats(), func(try int) error {
		var err error
		whole, err = c.try(ctx, r, try)
		return err
	})
	return whole, err
}

// repeat tries, and tries again where that may help.
func (c *Client) repeat(ctx context.Context, repeats bool, try func(int) error) error {
	limit := firstWait
	for n := 1; ; n++ {
		err := try(n)
		if err == nil || !repeats || n > c.retries || ctx.Err() != nil {
			return err
		}
		least, ok := waitAsked(err)
		if !ok {
			return err
		}
		wait := least + jitter(limit)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return err
		}
		if c.wait(ctx, wait) != nil {
			return err
		}
		if limit *= 2; limit > longestWait {
			limit = longestWait
		}
	}
}

// waitAsked is the least time before a repeat; false where there is none.
func waitAsked(err error) (time.Duration, bool) {
	var partial *partialError
	if errors.As(err, &partial) {
		return 0, false
	}
	var connection *ConnectionError
	if errors.As(err, &connection) {
		return 0, true
	}
	after := time.Duration(-1)
	var problem *Problem
	var other *ReplyError
	if errors.As(err, &problem) && problem.Status == http.StatusServiceUnavailable {
		after = problem.RetryAfter
	} else if errors.As(err, &other) && other.Status == http.StatusServiceUnavailable {
		after = other.retryAfter
	}
	return after, after >= 0 && after <= longestRetryAfter
}

// jitter is a random time below the limit: clients that lost their server together do not come back
// together. math/rand begins with the same numbers in every process, before Go 1.20.
func jitter(limit time.Duration) time.Duration {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return limit
	}
	return time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(limit))
}

// retryAfter reads the seconds; a date, which adamd does not send, is none.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 30)
	if err != nil {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// exchange is one try: a request that is on its way, and what came of it.
type exchange struct {
	client   *Client
	request  *request
	try      int
	url      string
	connects atomic.Bool // a connection was there: something may have been sent
	stalled  atomic.Bool
	stall    time.Duration
	timer    *time.Timer
	cancel   context.CancelFunc
	body     *outgoing
	response *http.Response
}

// touch notes that something moved.
func (x *exchange) touch() {
	if x.timer != nil {
		x.timer.Reset(x.stall)
	}
}

// end gives up what is left. The caller's memory is not read from here on.
func (x *exchange) end() {
	if x.timer != nil {
		x.timer.Stop()
	}
	x.body.end()
	if x.response != nil {
		x.response.Body.Close()
	}
	x.cancel()
}

// fail wraps what net/http said.
func (x *exchange) fail(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // it says the method and the URL again
	}
	if x.stalled.Load() {
		err = &stallError{x.stall}
	}
	return &ConnectionError{
		Method: x.request.method, URL: x.url, Tries: x.try, MaySent: x.connects.Load(),
		IdempotencyKey: x.request.key(), Err: err,
	}
}

// begin sends a request and waits for the head of its reply. On success the caller ends it.
func (c *Client) begin(ctx context.Context, r *request, try int) (*exchange, error) {
	x := &exchange{client: c, request: r, try: try, url: c.base.String()}
	target, err := url.Parse(trimSlash(x.url) + r.path)
	if err != nil {
		return nil, fmt.Errorf("adamd: %w", err)
	}
	x.url = target.String()
	inner, cancel := context.WithCancel(ctx)
	x.cancel = cancel
	inner = httptrace.WithClientTrace(inner, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { x.connects.Store(true) },
	})
	x.body = newOutgoing(r, x.touch)
	message, err := http.NewRequestWithContext(inner, r.method, x.url, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("adamd: %w", err)
	}
	x.fillRequest(message)
	if c.stall > 0 {
		x.stall = c.stall + r.longer
		x.timer = time.AfterFunc(x.stall, func() {
			x.stalled.Store(true)
			cancel()
		})
	}
	x.response, err = c.http.Do(message)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		x.end()
		return nil, x.fail(err)
	}
	x.touch()
	return x, nil
}

func (x *exchange) fillRequest(message *http.Request) {
	r := x.request
	for name, values := range r.header {
		message.Header[name] = values
	}
	message.Header.Set("User-Agent", "adamd-go")
	message.Header.Set("Accept-Encoding", "identity")
	accept := r.accept
	if accept == "" {
		accept = mediaJSON
	}
	message.Header.Set("Accept", accept)
	if r.contentType == "" {
		return
	}
	message.Header.Set("Content-Type", r.contentType)
	message.ContentLength = x.body.length
	message.Body = x.body
	if r.key() == "" && r.stream == nil {
		// net/http calls this where it wrote nothing, to an old connection that turned out to be
		// dead. A request with a key it would send again in other cases too, which is repeat's to do.
		message.GetBody = func() (io.ReadCloser, error) {
			x.body = newOutgoing(r, x.touch)
			return x.body, nil
		}
	}
	if x.body.length > askFirst {
		message.Header.Set("Expect", "100-continue")
	}
}

// try is one exchange with a reply that is held in memory.
func (c *Client) try(ctx context.Context, r request, n int) (*reply, error) {
	x, err := c.begin(ctx, &r, n)
	if err != nil {
		return nil, err
	}
	defer x.end()
	if x.response.StatusCode >= 300 && x.response.StatusCode != http.StatusNotModified {
		return nil, x.refusal(ctx)
	}
	body, err := x.read(ctx, c.maxReply)
	if err != nil {
		return nil, err
	}
	return &reply{x.response.StatusCode, x.response.Header, mediaType(x.response.Header), body}, nil
}

// read is the whole body.
func (x *exchange) read(ctx context.Context, limit int64) ([]byte, error) {
	length := x.response.ContentLength
	if x.request.method == "HEAD" || x.response.StatusCode == http.StatusNotModified {
		return nil, nil // the length is that of another GET's body
	}
	if length > limit {
		return nil, x.unexpected(fmt.Sprintf("a reply of %d bytes, expected at most %d: WithMaxReply allows for more",
			length, limit), nil)
	}
	source := &incoming{x}
	if length < 0 {
		body, err := readAll(source, int(limit))
		if err == errTooLong {
			return nil, x.unexpected(fmt.Sprintf("a reply of more than %d bytes: WithMaxReply allows for more", limit), nil)
		}
		return body, x.readError(ctx, err, int64(len(body)), length)
	}
	body := alignedBytes(int(length))
	n, err := io.ReadFull(source, body)
	return body, x.readError(ctx, err, int64(n), length)
}

// readError is what stopped the reading of a body, if something did.
func (x *exchange) readError(ctx context.Context, err error, got, want int64) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case want >= 0 && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)):
		err = &cutError{got, want}
	}
	return x.fail(err)
}

// incoming is the body of a reply, whose every piece is a sign of life.
type incoming struct{ x *exchange }

func (in *incoming) Read(p []byte) (int, error) {
	n, err := in.x.response.Body.Read(p)
	in.x.touch()
	return n, err
}

func trimSlash(text string) string {
	for len(text) > 0 && text[len(text)-1] == '/' {
		text = text[:len(text)-1]
	}
	return text
}
