package adamd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"
)

// file is a safetensors file with this header.
func file(header string, data int) []byte {
	out := make([]byte, 8, 8+len(header)+data)
	binary.LittleEndian.PutUint64(out, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

// What is written is read again, in order, and every tensor begins where it can be viewed.
func TestWrittenAndRead(t *testing.T) {
	tensors := Tensors{
		NewTensor16("half", Float16, []uint16{0x3c00, 0x7e00, 1}),
		NewScalar("scalar", 0.1),
		NewTensor("größe/\"β\" <&>", []float32{1, float32(math.Inf(1)), -0}, 3, 1),
		NewTensor("none", []float64{}, 0, 3),
		NewTensor16("brain", BFloat16, []uint16{0x3fc0}),
	}
	var out bytes.Buffer
	must(t, WriteSafetensors(&out, tensors, map[string]string{"a": "1\u2028", "<b>": "{}"}))
	for _, r := range []io.Reader{bytes.NewReader(out.Bytes()), iotest.OneByteReader(bytes.NewReader(out.Bytes()))} {
		read, metadata, err := ReadSafetensors(r)
		must(t, err)
		want(t, "metadata", metadata, map[string]string{"a": "1\u2028", "<b>": "{}"})
		for i, tensor := range read {
			want(t, "tensor", fmt.Sprint(tensor.Name, tensor.DType, tensor.Shape, tensor.Bytes),
				fmt.Sprint(tensors[i].Name, tensors[i].DType, tensors[i].Shape, tensors[i].Bytes))
		}
		scalar, err := read.Float64("scalar")
		must(t, err)
		want(t, "scalar", scalar, []float64{0.1})
		half, _ := read.Get("half")
		bits, err := Values[uint16](half)
		must(t, err)
		want(t, "half", bits, []uint16{0x3c00, 0x7e00, 1})
	}
}

// Neither way copies: the file has the caller's memory, the values that of the file.
func TestViews(t *testing.T) {
	data := []float32{1, 2, 3, 4}
	tensor := NewTensor("w", data, 2, 2)
	parts, err := encode(Tensors{tensor}, nil)
	must(t, err)
	if unsafe.Pointer(&parts[1][0]) != unsafe.Pointer(&data[0]) {
		t.Error("the tensor was copied on its way out")
	}
	whole, err := readAll(bytes.NewReader(bytes.Join(parts, nil)), math.MaxInt)
	must(t, err)
	read, _, err := decode(whole)
	must(t, err)
	values, err := read.Float32("w")
	must(t, err)
	if unsafe.Pointer(&values[0]) != unsafe.Pointer(&read[0].Bytes[0]) {
		t.Error("the values were copied on their way in")
	}
	odd := alignedBytes(17)[1:]
	copy(odd, tensor.Bytes)
	values, err = Values[float32](Tensor{"w", Float32, []int{4}, odd})
	must(t, err)
	want(t, "unaligned values", values, data)
	if unsafe.Pointer(&values[0]) == unsafe.Pointer(&odd[0]) {
		t.Error("values at an odd address are a view")
	}
	want(t, "swapped", swapped([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 4), []byte{4, 3, 2, 1, 8, 7, 6, 5})
}

func TestNotToBeSent(t *testing.T) {
	for said, tensors := range map[string]Tensors{
		"takes 16 bytes as F32, but has 12": {NewTensor("w", []float32{1, 2, 3}, 2, 2)},
		"expected F32":                      {{Name: "w", DType: "I8", Shape: []int{1}, Bytes: []byte{1}}},
		"is not UTF-8":                      {NewTensor("\xff", []float32{1})},
		"is taken":                          {NewTensor("w", []float32{1}), NewTensor("w", []float32{1})},
		"expected sizes of 0 and more":      {NewTensor("w", []float32{1}, -1, -1)},
		"\"__metadata__\" is taken":         {NewTensor("__metadata__", []float32{1})},
	} {
		if _, err := encode(tensors, nil); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%v, expected %q", err, said)
		}
	}
	if _, err := Values[float64](NewTensor("w", []float32{1})); err == nil {
		t.Error("float64 of float32")
	}
	if _, err := (Tensors{}).Float32("w"); err == nil {
		t.Error("values of no tensor")
	}
}

func TestBrokenFiles(t *testing.T) {
	w := func(rest string) string { return `{"w":{"dtype":"F32",` + rest + `}}` }
	for name, bad := range map[string][]byte{
		"empty":             {},
		"short":             {1, 2, 3},
		"long header":       file("{}", 0)[:9],
		"enormous header":   append(bytes.Repeat([]byte{0xff}, 8), '{', '}'),
		"no object":         file("[]", 0),
		"no JSON":           file("{{{{", 0),
		"more than JSON":    file("{} {}", 0),
		"no UTF-8":          file("{\"\xff\":1}", 0),
		"twice":             file(`{"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0),
		"no shape":          file(w(`"data_offsets":[0,4]`), 4),
		"wrong shape":       file(w(`"shape":[2],"data_offsets":[0,4]`), 4),
		"negative shape":    file(w(`"shape":[-1],"data_offsets":[0,4]`), 4),
		"overflowing shape": file(w(`"shape":[4611686018427387904,4],"data_offsets":[0,0]`), 0),
		"beyond the end":    file(w(`"shape":[2],"data_offsets":[0,8]`), 4),
		"backwards":         file(w(`"shape":[0],"data_offsets":[4,0]`), 4),
		"huge offset":       file(w(`"shape":[1],"data_offsets":[0,99999999999999999999]`), 4),
		"hole":              file(w(`"shape":[1],"data_offsets":[4,8]`), 8),
		"tail":              file(w(`"shape":[1],"data_offsets":[0,4]`), 5),
		"other type":        file(`{"w":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, 8),
		"metadata":          file(`{"__metadata__":{"a":1}}`, 0),
	} {
		if tensors, _, err := decode(bad); err == nil {
			t.Errorf("%s: read as %v", name, tensors)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(file(`{"__metadata__":{"a":"1"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		tensors, metadata, err := decode(data)
		if err != nil {
			return
		}
		var out bytes.Buffer
		must(t, WriteSafetensors(&out, tensors, metadata))
	})
}
