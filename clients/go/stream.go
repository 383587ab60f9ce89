package adamd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
)

// Load says what a state_dict is loaded for. There is no default: the wrong one of the two goes
// unnoticed until the training has gone wrong.
type Load string

// LoadEverything makes the optimizer what the state is, bit for bit; it must have the same groups
// of the same parameters. LoadParams takes the values of the parameters alone.
const (
	LoadEverything Load = "everything"
	LoadParams     Load = "params"
)

// WriteStateDict writes everything that decides the next step, as a safetensors file, while it
// comes. Where the connection breaks it is asked for again, if nothing has been written yet or what
// has been can be taken back: of a *bytes.Buffer, or of what can Seek and Truncate, as an *os.File.
// Otherwise the error says how far it came, and what was written is not whole.
func (o *Optimizer) WriteStateDict(ctx context.Context, w io.Writer) error {
	return o.stream(ctx, o.get("/state_dict"), w)
}

// PutStateDict loads what WriteStateDict wrote, read as in CreateFrom.
func (o *Optimizer) PutStateDict(ctx context.Context, file io.Reader, load Load) error {
	r, err := o.send("PUT", "/state_dict"+query(url.Values{"load": {string(load)}})).withStream(file)
	return o.run(ctx, r, err)
}

// StateDict is everything that decides an optimizer's next step, in memory.
type StateDict struct {
	Tensors   // params/NAME, exp_avg/NAME, exp_avg_sq/NAME, max_exp_avg_sq/NAME
	Metadata  map[string]string
	Step      int64
	Algorithm string
	ETag      string
}

// StateDict reads all of it into memory; to a file, WriteStateDict needs none. For the way back,
// WriteSafetensors makes a file of Tensors and Metadata.
func (o *Optimizer) StateDict(ctx context.Context) (*StateDict, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r := o.get("/state_dict")
	got, tensors, metadata, err := o.client.callTensors(ctx, r)
	if err != nil {
		return nil, err
	}
	state := &StateDict{Tensors: tensors, Metadata: metadata, ETag: got.etag()}
	var head struct {
		Algorithm string `json:"algorithm"`
		Step      int64  `json:"step"`
	}
	if err := json.Unmarshal([]byte(metadata["state_dict"]), &head); err != nil {
		return nil, o.client.odd(&r, got, "state_dict in its metadata cannot be read: %v", err)
	}
	state.Algorithm, state.Step = head.Algorithm, head.Step
	return state, nil
}

// withStream gives a request the bytes of a reader as they are, in safetensors, which needs their
// length.
func (r request) withStream(file io.Reader) (request, error) {
	r.contentType = mediaSafetensors
	switch file := file.(type) {
	case interface{ Len() int }: // bytes.Reader, bytes.Buffer, strings.Reader
		r.size = int64(file.Len())
	case io.Seeker:
		size, err := restOf(file)
		if err != nil {
			return r, fmt.Errorf("adamd: the length of what is to be sent: %w", err)
		}
		r.size = size
	default:
		data, err := readAll(file, math.MaxInt)
		if err != nil {
			return r, fmt.Errorf("adamd: reading what is to be sent: %w", err)
		}
		r.parts = [][]byte{data}
		return r, nil
	}
	r.stream = file
	return r, nil
}

// restOf is the bytes from here to the end.
func restOf(file io.Seeker) (int64, error) {
	here, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	_, err = file.Seek(here, io.SeekStart)
	return end - here, err
}

// sink is where a reply is written, and how to take that back.
type sink struct {
	w       io.Writer
	written int64
	failed  error // of the writer, not of the connection
	rewind  func() error
}

func newSink(w io.Writer) *sink {
	s := &sink{w: w}
	switch w := w.(type) {
	case *bytes.Buffer:
		n := w.Len()
		s.rewind = func() error {
			w.Truncate(n)
			return nil
		}
	case interface {
		io.Seeker
		Truncate(int64) error
	}:
		begin, err := w.Seek(0, io.SeekCurrent)
		if err != nil {
			break // a pipe
		}
		s.rewind = func() error {
			if _, err := w.Seek(begin, io.SeekStart); err != nil {
				return err
			}
			return w.Truncate(begin)
		}
	}
	return s
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.written += int64(n)
	s.failed = err
	return n, err
}

// stream is a call whose reply is written as it comes.
func (o *Optimizer) stream(ctx context.Context, r request, w io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	r.accept = mediaSafetensors
	to := newSink(w)
	err := o.client.repeat(ctx, true, func(try int) error {
		if to.written > 0 {
			if err := to.rewind(); err != nil {
				return fmt.Errorf("adamd: taking back what was written: %w", err)
			}
			to.written = 0
		}
		err := o.client.pour(ctx, &r, try, to)
		if err != nil && to.written > 0 && to.rewind == nil {
			return &partialError{err, to.written}
		}
		return err
	})
	return err
}

// pour is one try of stream.
func (c *Client) pour(ctx context.Context, r *request, try int, to *sink) error {
	x, err := c.begin(ctx, r, try)
	if err != nil {
		return err
	}
	defer x.end()
	if x.response.StatusCode >= 300 {
		return x.refusal(ctx)
	}
	if media := mediaType(x.response.Header); x.response.StatusCode != http.StatusOK || media != mediaSafetensors {
		return x.unexpected(fmt.Sprintf("the reply is of type %q, expected %s: is it adamd that answers at this URL?",
			media, mediaSafetensors), nil)
	}
	_, err = io.CopyBuffer(to, &incoming{x}, make([]byte, bufferBytes))
	if to.failed != nil {
		return fmt.Errorf("adamd: writing what came: %w", to.failed)
	}
	return x.readError(ctx, err, to.written, x.response.ContentLength)
}
