package adamd

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
	"unicode/utf8"
)

const (
	maxHeader   = 100_000_000 // bytes of a header, as the reference implementation has it
	alignment   = 64          // of the data
	metadataKey = "__metadata__"
)

// pair is one member of a file's metadata, whose order is kept.
type pair struct{ key, value string }

// marshal is JSON without the escapes that are meant for HTML, and without a line break.
func marshal(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("adamd: not to be said in JSON: %w", err)
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

// writeText appends a string as JSON; Go would replace what is no UTF-8, and another name would go
// out than was given.
func writeText(out *bytes.Buffer, what, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("adamd: %s %q is not UTF-8", what, text)
	}
	quoted, err := marshal(text)
	out.Write(quoted)
	return err
}

// encode is a file in parts, in the order in which they are sent. The header names the tensors in
// their order; the data of the widest stands first, so that each begins at a multiple of its
// element's size. Tensors are not copied.
func encode(tensors Tensors, metadata []pair) ([][]byte, error) {
	order := make([]int, len(tensors))
	seen := make(map[string]bool, len(tensors))
	for i, t := range tensors {
		order[i] = i
		if err := t.check(); err != nil {
			return nil, err
		}
		if t.Name == metadataKey || seen[t.Name] {
			return nil, fmt.Errorf("adamd: the tensor name %q is taken, expected another", t.Name)
		}
		seen[t.Name] = true
	}
	sort.SliceStable(order, func(a, b int) bool {
		return tensors[order[a]].DType.Size() > tensors[order[b]].DType.Size()
	})
	begins := make([]int, len(tensors))
	at := 0
	parts := make([][]byte, 1, len(tensors)+1)
	for _, i := range order {
		begins[i] = at
		at += len(tensors[i].Bytes)
		if len(tensors[i].Bytes) > 0 {
			parts = append(parts, tensors[i].Bytes)
		}
	}
	header, err := encodeHeader(tensors, begins, metadata)
	parts[0] = header
	return parts, err
}

func encodeHeader(tensors Tensors, begins []int, metadata []pair) ([]byte, error) {
	var out bytes.Buffer
	out.Write(make([]byte, 8))
	separator := "{"
	if len(metadata) > 0 {
		out.WriteString(`{"` + metadataKey + `":`)
		for _, m := range metadata {
			out.WriteString(separator)
			separator = ","
			if err := writeText(&out, "the metadata key", m.key); err != nil {
				return nil, err
			}
			out.WriteByte(':')
			if err := writeText(&out, "the metadata "+m.key+",", m.value); err != nil {
				return nil, err
			}
		}
		out.WriteByte('}')
	}
	for i, t := range tensors {
		out.WriteString(separator)
		separator = ","
		if err := writeText(&out, "the tensor name", t.Name); err != nil {
			return nil, err
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		sizes, _ := json.Marshal(shape)
		fmt.Fprintf(&out, `:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`,
			t.DType, sizes, begins[i], begins[i]+len(t.Bytes))
	}
	if separator == "{" {
		out.WriteByte('{')
	}
	out.WriteByte('}')
	for out.Len()%alignment != 0 {
		out.WriteByte(' ')
	}
	length := out.Len() - 8
	if length > maxHeader {
		return nil, fmt.Errorf("adamd: the header takes %d bytes, expected at most %d", length, maxHeader)
	}
	binary.LittleEndian.PutUint64(out.Bytes(), uint64(length))
	return out.Bytes(), nil
}

// WriteSafetensors writes a file of these tensors, as adamd takes it. Metadata may be nil.
func WriteSafetensors(w io.Writer, tensors Tensors, metadata map[string]string) error {
	pairs := make([]pair, 0, len(metadata))
	for key, value := range metadata {
		pairs = append(pairs, pair{key, value})
	}
	sort.Slice(pairs, func(a, b int) bool { return pairs[a].key < pairs[b].key })
	parts, err := encode(tensors, pairs)
	for _, part := range parts {
		if err == nil {
			_, err = w.Write(part)
		}
	}
	return err
}

// ReadSafetensors reads a file to its end: the tensors in its header's order, and its metadata. It
// is held in memory once, and the tensors are views of that.
func ReadSafetensors(r io.Reader) (Tensors, map[string]string, error) {
	data, err := readAll(r, math.MaxInt)
	if err != nil {
		return nil, nil, err
	}
	return decode(data)
}

// entry is a tensor in a header. What else stands there is a newer server's, and passed over.
type entry struct {
	DType   DType   `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// decode takes a file apart. The tensors are views of it.
func decode(file []byte) (Tensors, map[string]string, error) {
	if len(file) < 8 {
		return nil, nil, fmt.Errorf("adamd: %d bytes are no safetensors file, expected at least 8", len(file))
	}
	length := headerLength(file)
	if length > maxHeader || length > uint64(len(file)-8) {
		return nil, nil, fmt.Errorf("adamd: a safetensors header of %d bytes in a file of %d", length, len(file))
	}
	text, data := file[8:8+length], file[8+length:]
	if !utf8.Valid(text) || len(text) == 0 || text[0] != '{' {
		return nil, nil, fmt.Errorf("adamd: the safetensors header is not JSON that begins with '{'")
	}
	tensors, begins, metadata, err := decodeHeader(text, data)
	if err != nil {
		return nil, nil, err
	}
	return tensors, metadata, checkLayout(tensors, begins, len(data))
}

func decodeHeader(text, data []byte) (Tensors, []int, map[string]string, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	_, err := decoder.Token() // the brace
	tensors := Tensors{}
	begins := []int{}
	metadata := map[string]string{}
	seen := map[string]bool{}
	for err == nil && decoder.More() {
		var key json.Token
		if key, err = decoder.Token(); err != nil {
			break
		}
		name, _ := key.(string) // a key is always one
		if seen[name] {
			return nil, nil, nil, fmt.Errorf("adamd: %q stands twice in the safetensors header", name)
		}
		seen[name] = true
		if name == metadataKey {
			err = decoder.Decode(&metadata)
			continue
		}
		var found entry
		if err = decoder.Decode(&found); err == nil {
			var tensor Tensor
			if tensor, err = found.tensor(name, data); err != nil {
				return nil, nil, nil, err
			}
			tensors = append(tensors, tensor)
			begins = append(begins, int(found.Offsets[0]))
		}
	}
	if err == nil {
		_, err = decoder.Token()
	}
	if err == nil && len(bytes.TrimSpace(text[decoder.InputOffset():])) > 0 {
		err = fmt.Errorf("something stands behind it")
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("adamd: the safetensors header cannot be read: %w", err)
	}
	return tensors, begins, metadata, nil
}

func (e entry) tensor(name string, data []byte) (Tensor, error) {
	if len(e.Offsets) != 2 || e.Offsets[0] < 0 || e.Offsets[1] < e.Offsets[0] ||
		e.Offsets[1] > int64(len(data)) {
		return Tensor{}, fmt.Errorf("adamd: tensor %q has data_offsets %v in %d bytes of data",
			name, e.Offsets, len(data))
	}
	begin, end := int(e.Offsets[0]), int(e.Offsets[1])
	t := Tensor{Name: name, DType: e.DType, Shape: e.Shape, Bytes: data[begin:end:end]}
	if t.Shape == nil {
		return t, fmt.Errorf("adamd: tensor %q has no shape", name)
	}
	return t, t.check()
}

// checkLayout refuses holes, overlaps and bytes that are no tensor's.
func checkLayout(tensors Tensors, begins []int, length int) error {
	order := make([]int, len(tensors))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool {
		x, y := order[a], order[b]
		if begins[x] != begins[y] {
			return begins[x] < begins[y]
		}
		return len(tensors[x].Bytes) < len(tensors[y].Bytes)
	})
	at := 0
	for _, i := range order {
		if begins[i] != at {
			return fmt.Errorf("adamd: tensor %q begins at %d, expected %d", tensors[i].Name, begins[i], at)
		}
		at += len(tensors[i].Bytes)
	}
	if at != length {
		return fmt.Errorf("adamd: %d bytes of data, expected %d", length, at)
	}
	return nil
}

// readAll reads to the end, into memory at which a tensor can be viewed.
func readAll(r io.Reader, limit int) ([]byte, error) {
	out := alignedBytes(64 << 10)
	n := 0
	for {
		if n == len(out) {
			longer := alignedBytes(2 * len(out))
			copy(longer, out)
			out = longer
		}
		got, err := r.Read(out[n:])
		n += got
		if n > limit {
			return nil, errTooLong
		}
		if err == io.EOF {
			return out[:n:n], nil
		}
		if err != nil {
			return out[:n:n], err
		}
	}
}
