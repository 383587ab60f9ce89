package adamd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"
)

// canned plays replies back, one for each request, and closes behind those that are cut.
type canned struct {
	listener net.Listener
	replies  []string
	stall    time.Duration // before a connection is closed

	mutex    sync.Mutex
	requests []string
}

func play(t *testing.T, replies ...string) *canned {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &canned{listener: listener, replies: replies}
	go c.serve()
	t.Cleanup(func() { listener.Close() })
	return c
}

func (c *canned) url() string { return "http://" + c.listener.Addr().String() }

func (c *canned) serve() {
	for {
		peer, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.talk(peer)
	}
}

func (c *canned) talk(peer net.Conn) {
	defer peer.Close()
	in := bufio.NewReader(peer)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		var body bytes.Buffer
		if request.Header.Get("Expect") != "" {
			fmt.Fprint(peer, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if _, err := io.Copy(&body, request.Body); err != nil {
			return
		}
		var head bytes.Buffer
		_ = request.Header.Write(&head)
		c.mutex.Lock()
		n := len(c.requests)
		c.requests = append(c.requests, fmt.Sprintf("%s %s\r\n%s\r\n%s", request.Method, request.RequestURI, &head, &body))
		reply := ""
		if n < len(c.replies) {
			reply = c.replies[n]
		}
		c.mutex.Unlock()
		if _, err := io.WriteString(peer, reply); err != nil {
			return
		}
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader([]byte(reply))), request)
		if err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
		}
		if err != nil || answer.Close {
			time.Sleep(c.stall)
			return
		}
	}
}

func (c *canned) seen() []string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]string(nil), c.requests...)
}

var keyLine = regexp.MustCompile(`Idempotency-Key: (\S+)`)

func (c *canned) keys() []string {
	keys := []string{}
	for _, request := range c.seen() {
		found := keyLine.FindStringSubmatch(request)
		if found == nil {
			found = []string{"", ""}
		}
		keys = append(keys, found[1])
	}
	return keys
}

// client has waits that take no time, and are kept.
func (c *canned) client(t *testing.T, options ...Option) (*Optimizer, *[]time.Duration) {
	t.Helper()
	client, err := New(c.url(), options...)
	must(t, err)
	waits := &[]time.Duration{}
	client.wait = func(ctx context.Context, d time.Duration) error {
		*waits = append(*waits, d)
		return ctx.Err()
	}
	t.Cleanup(client.Close)
	return client.Optimizer("m"), waits
}

func replyOf(status, media, body string, lines ...string) string {
	out := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n", status, media, len(body))
	for _, line := range lines {
		out += line + "\r\n"
	}
	return out + "\r\n" + body
}

func problemOf(status, body string, lines ...string) string {
	return replyOf(status, "application/problem+json", body, lines...)
}

// stepped is the reply to a step.
func stepped(more ...pair) string {
	metadata := append([]pair{
		{"step", "1"}, {"grad_norm", "NaN"}, {"param_norm", "Infinity"}, {"update_norm", "1e-08"}, {"clip_coef", "1"},
		{"skipped", "false"}, {"converted", "2"}, {"param_groups", `[{"grad_norm": "NaN", "new": 1}]`}, {"new", "?"},
	}, more...)
	parts, err := encode(Tensors{NewTensor("w", []float32{1, 1})}, metadata)
	if err != nil {
		panic(err)
	}
	return replyOf("200 OK", mediaSafetensors, string(bytes.Join(parts, nil)), `ETag: "e7-s1"`)
}

var grads = Tensors{NewTensor("w", []float32{1, -2})}
