package adamd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// reply is a whole one.
type reply struct {
	status    int
	header    http.Header
	mediaType string
	body      []byte
}

func (r *reply) etag() string   { return r.header.Get("ETag") }
func (r *reply) replayed() bool { return r.header.Get("Idempotent-Replayed") == "true" }

// refusal is the error of a reply of 300 and above.
func (x *exchange) refusal(ctx context.Context) error {
	response := x.response
	body, err := readAll(io.LimitReader(&incoming{x}, maxProblem), maxProblem)
	if err != nil && err != errTooLong {
		return x.readError(ctx, err, int64(len(body)), response.ContentLength)
	}
	media := mediaType(response.Header)
	if problem := newProblem(response.StatusCode, body); problem != nil && media == "application/problem+json" {
		problem.Method, problem.Path = x.request.method, x.request.path
		problem.RetryAfter = retryAfter(response.Header)
		if problem.ETag == "" {
			problem.ETag = response.Header.Get("ETag")
		}
		return problem
	}
	reason := "no problem document came with it: it is not adamd that answered, but something on the way, such as a proxy"
	if response.StatusCode < 400 {
		reason = fmt.Sprintf("a redirect to %q, which is not followed: give the URL where adamd is",
			response.Header.Get("Location"))
	}
	return x.unexpected(reason, body)
}

// unexpected is the error of a reply that adamd would not send.
func (x *exchange) unexpected(reason string, body []byte) error {
	if len(body) > excerpt {
		body = body[:excerpt]
	}
	return &ReplyError{
		Method: x.request.method, URL: x.url, Status: x.response.StatusCode,
		ContentType: x.response.Header.Get("Content-Type"), Body: body, Reason: reason,
		retryAfter: retryAfter(x.response.Header),
	}
}

func mediaType(header http.Header) string {
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return media
}

// odd is the error of a whole reply that cannot be read.
func (c *Client) odd(r *request, got *reply, format string, args ...any) error {
	body := got.body
	if len(body) > excerpt {
		body = body[:excerpt]
	}
	return &ReplyError{
		Method: r.method, URL: trimSlash(c.base.String()) + r.path, Status: got.status,
		ContentType: got.header.Get("Content-Type"), Body: body, Reason: fmt.Sprintf(format, args...),
		retryAfter: -1,
	}
}

// callJSON is call with a reply in JSON.
func (c *Client) callJSON(ctx context.Context, r request, into any) error {
	got, err := c.call(ctx, r)
	if err != nil {
		return err
	}
	if got.mediaType != mediaJSON {
		return c.odd(&r, got, "the reply is of type %q, expected %s: is it adamd that answers at this URL?",
			got.mediaType, mediaJSON)
	}
	if err := json.Unmarshal(got.body, into); err != nil {
		return c.odd(&r, got, "the reply cannot be read: %v", err)
	}
	return nil
}

// callTensors is call with a reply in safetensors, or 304.
func (c *Client) callTensors(ctx context.Context, r request) (*reply, Tensors, map[string]string, error) {
	r.accept = mediaSafetensors
	got, err := c.call(ctx, r)
	if err != nil || got.status == http.StatusNotModified {
		return got, nil, nil, err
	}
	if got.mediaType != mediaSafetensors {
		return nil, nil, nil, c.odd(&r, got, "the reply is of type %q, expected %s: is it adamd that answers at this URL?",
			got.mediaType, mediaSafetensors)
	}
	tensors, metadata, err := decode(got.body)
	if err != nil {
		return nil, nil, nil, c.odd(&r, got, "the reply cannot be read: %v", err)
	}
	return got, tensors, metadata, nil
}

func getJSON[T any](ctx context.Context, c *Client, path string) (*T, error) {
	return sendJSON[T](ctx, c, request{method: "GET", path: path})
}

func sendJSON[T any](ctx context.Context, c *Client, r request) (*T, error) {
	into := new(T)
	if err := c.callJSON(ctx, r, into); err != nil {
		return nil, err
	}
	return into, nil
}
