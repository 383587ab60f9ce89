package adamd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultRetries = 8
	defaultStall   = 120 * time.Second
	defaultReply   = 8 << 30
	connectTimeout = 10 * time.Second
	// Below the 60 s after which adamd closes an idle connection, so that a request that is not
	// repeated does not meet one that is about to close.
	idleTimeout = 30 * time.Second
	// net/http copies through these; its own are of 4 KiB.
	bufferBytes = 256 << 10
)

// Client is a server, and the connections to it, which are kept open. Goroutines may share it.
//
// A step, and a request that only reads, is sent again where no whole reply came (not reached, cut
// off, too slow) and after 503 with Retry-After: at most WithRetries times, after random waits of up
// to 100 ms at first, which doubles to 5 s, and never past the deadline of the context. The repeats
// of a step carry the Idempotency-Key of the first, so that it is taken once. No other reply is
// followed by a repeat. What else changes something is sent once: it has no key, and a second try
// could meet what the first one, or somebody else since, has done.
type Client struct {
	base     *url.URL // without a slash at its end
	http     *http.Client
	retries  int
	stall    time.Duration
	maxReply int64
	wait     func(context.Context, time.Duration) error // time.Sleep, but in tests
}

// Option is a choice of New.
type Option func(*Client) error

// WithHTTPClient sends through this client: its transport, proxies, cookies, certificates. Its
// Timeout is that of one try. Without it, adamd has one of its own, which takes the proxies that the
// environment names (HTTP_PROXY, NO_PROXY). Redirects are not followed, unless this client says how.
func WithHTTPClient(client *http.Client) Option {
	return func(c *Client) error {
		if client == nil {
			return errors.New("adamd: WithHTTPClient(nil): expected a client")
		}
		own := *client
		if own.CheckRedirect == nil {
			own.CheckRedirect = noRedirect
		}
		c.http = &own
		return nil
	}
}

// WithRetries is how often a step, or a request that reads, is sent again; 8 if not given, 0: never.
func WithRetries(n int) Option {
	return func(c *Client) error {
		if n < 0 {
			return fmt.Errorf("adamd: WithRetries(%d): expected 0 or more", n)
		}
		c.retries = n
		return nil
	}
}

// WithStallTimeout is for how long nothing may move on a connection, in either direction, before
// that try is given up; 2 minutes if not given, 0: no limit. A step of a round in "sync" waits for
// the others; where that takes longer, its repeat waits along. The limit of a whole call with its
// repeats is its context's.
func WithStallTimeout(d time.Duration) Option {
	return func(c *Client) error {
		if d < 0 {
			return fmt.Errorf("adamd: WithStallTimeout(%v): expected 0 or more", d)
		}
		c.stall = d
		return nil
	}
}

// WithMaxReply is the largest reply in bytes that is held in memory; 8 GiB if not given.
func WithMaxReply(bytes int64) Option {
	return func(c *Client) error {
		if bytes <= 0 {
			return fmt.Errorf("adamd: WithMaxReply(%d): expected more than 0", bytes)
		}
		c.maxReply = bytes
		return nil
	}
}

// New is a client of the server at this URL, "http://127.0.0.1:2326"; a path in it is put before
// that of every request. Sends nothing.
func New(server string, options ...Option) (*Client, error) {
	base, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("adamd: %w", err)
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("adamd: %q is not a URL like \"http://127.0.0.1:2326\"", server)
	}
	if base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, fmt.Errorf("adamd: %q: expected scheme, host, port and path alone", server)
	}
	c := &Client{base: base, retries: defaultRetries, stall: defaultStall, maxReply: defaultReply, wait: sleep}
	for _, option := range options {
		if err := option(c); err != nil {
			return nil, err
		}
	}
	if c.http == nil {
		c.http = &http.Client{Transport: newTransport(), CheckRedirect: noRedirect}
	}
	return c, nil
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       idleTimeout,
		TLSHandshakeTimeout:   connectTimeout,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		ReadBufferSize:        bufferBytes,
		WriteBufferSize:       bufferBytes,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Optimizer is a handle on the optimizer of this name, whether it exists yet or not. Sends nothing.
func (c *Client) Optimizer(name string) *Optimizer {
	return &Optimizer{client: c, name: name, path: "/v1/optimizers/" + segment(name)}
}

// Server tells what the server is.
func (c *Client) Server(ctx context.Context) (*Server, error) {
	return getJSON[Server](ctx, c, "/")
}

// Live tells whether the process answers, also while it starts and stops: nil if so.
func (c *Client) Live(ctx context.Context) error {
	_, err := c.call(ctx, request{method: "GET", path: "/livez"})
	return err
}

// Ready tells whether it takes requests: nil if so. One that is not ready yet is asked again, as
// with every request that reads, until it is or the retries or the context's time are over.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.call(ctx, request{method: "GET", path: "/readyz"})
	return err
}

// List is all optimizers whose name begins with the prefix, by name.
func (c *Client) List(ctx context.Context, prefix string) ([]Summary, error) {
	var found []Summary
	after := ""
	for {
		page, next, err := c.ListPage(ctx, prefix, after, 1000)
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
		if next == "" {
			return found, nil
		}
		after = next
	}
}

// ListPage is a page of List: at most limit (1 to 1000) optimizers, those whose name sorts behind
// after, and what to give as after for the next page, empty on the last one.
func (c *Client) ListPage(ctx context.Context, prefix, after string, limit int) ([]Summary, string, error) {
	query := url.Values{"limit": {fmt.Sprint(limit)}}
	if prefix != "" {
		query.Set("prefix", prefix)
	}
	if after != "" {
		query.Set("after", after)
	}
	type list struct {
		Optimizers []Summary `json:"optimizers"`
		Next       string    `json:"next"`
	}
	reply, err := getJSON[list](ctx, c, "/v1/optimizers?"+query.Encode())
	if err != nil {
		return nil, "", err
	}
	return reply.Optimizers, reply.Next, nil
}

// segment is a name as one segment of a path. Dots alone would mean "here" or "above".
func segment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}
