package adamd

import (
	"errors"
	"io"
	"sync"
)

var errEnded = errors.New("the call is over")

// outgoing is a request's body: the caller's memory, part by part. net/http may go on reading when
// the call has its answer; after end it reads nothing any more, so that the caller may write there.
type outgoing struct {
	length int64
	touch  func()

	mutex  sync.Mutex
	parts  [][]byte
	stream io.Reader
	ended  bool
}

func newOutgoing(r *request, touch func()) *outgoing {
	body := &outgoing{touch: touch, stream: r.stream, length: r.size}
	if r.stream == nil {
		body.length = 0
		body.parts = make([][]byte, len(r.parts))
		copy(body.parts, r.parts)
		for _, part := range r.parts {
			body.length += int64(len(part))
		}
	}
	return body
}

func (b *outgoing) Read(p []byte) (int, error) {
	b.touch()
	if b.stream != nil { // outside of the lock: it may stand still
		return b.stream.Read(p)
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.ended {
		return 0, errEnded
	}
	n := 0
	for n < len(p) && len(b.parts) > 0 {
		done := copy(p[n:], b.parts[0])
		n += done
		if b.parts[0] = b.parts[0][done:]; len(b.parts[0]) == 0 {
			b.parts = b.parts[1:]
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close is net/http's, which is done with it.
func (b *outgoing) Close() error {
	b.end()
	return nil
}

func (b *outgoing) end() {
	b.mutex.Lock()
	b.ended = true
	b.parts = nil
	b.mutex.Unlock()
}
