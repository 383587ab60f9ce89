package adamd

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// DType is the type of a tensor's numbers, by its name in safetensors.
type DType string

// The types that travel. Parameters are kept as one of the first two.
const (
	Float32  DType = "F32"
	Float64  DType = "F64"
	BFloat16 DType = "BF16"
	Float16  DType = "F16"
)

// Size is the number of bytes of one element, 0 for a type that is not known.
func (d DType) Size() int {
	switch d {
	case Float32:
		return 4
	case Float64:
		return 8
	case BFloat16, Float16:
		return 2
	}
	return 0
}

// query is the type as ?dtype= has it.
func (d DType) query() string {
	switch d {
	case Float32:
		return "f32"
	case Float64:
		return "f64"
	case BFloat16:
		return "bf16"
	case Float16:
		return "f16"
	}
	return string(d)
}

// dtypeOf is the type that JSON names "float32" and the like.
func dtypeOf(name string) DType {
	switch name {
	case "float32":
		return Float32
	case "float64":
		return Float64
	}
	return DType(name)
}

// Number is what a view has for elements. Go has no 16-bit floats: uint16 is their bits.
type Number interface {
	float32 | float64 | uint16
}

// Tensor is a named view of numbers, row-major and little-endian. It owns nothing: Bytes is the
// caller's slice where the tensor is sent, and a part of the reply where it was received.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // nil or empty: a scalar, one element
	Bytes []byte
}

// littleEndian tells whether this machine has its numbers as the wire has them.
var littleEndian = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 1
}()

// NewTensor is a tensor of these numbers, which are not copied (on a big-endian machine they are).
// Without a shape it has one dimension. A shape that does not fit is refused where it is sent.
func NewTensor[T float32 | float64](name string, data []T, shape ...int) Tensor {
	dtype := Float32
	if unsafe.Sizeof(*new(T)) == 8 {
		dtype = Float64
	}
	return newTensor(name, dtype, data, shape)
}

// NewTensor16 is NewTensor for BFloat16 and Float16, whose bits are given.
func NewTensor16(name string, dtype DType, bits []uint16, shape ...int) Tensor {
	return newTensor(name, dtype, bits, shape)
}

// NewScalar is a tensor without dimensions.
func NewScalar[T float32 | float64](name string, value T) Tensor {
	tensor := NewTensor(name, []T{value})
	tensor.Shape = []int{}
	return tensor
}

func newTensor[T Number](name string, dtype DType, data []T, shape []int) Tensor {
	if len(shape) == 0 {
		shape = []int{len(data)}
	}
	return Tensor{Name: name, DType: dtype, Shape: shape, Bytes: bytesOf(data)}
}

// bytesOf is the numbers as the wire has them, themselves where the machine has them so too.
func bytesOf[T Number](data []T) []byte {
	if len(data) == 0 {
		return nil
	}
	size := int(unsafe.Sizeof(data[0]))
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), len(data)*size)
	if littleEndian {
		return bytes
	}
	return swapped(bytes, size)
}

// swapped is a copy with the bytes of each element in the other order.
func swapped(bytes []byte, size int) []byte {
	out := make([]byte, len(bytes))
	for i := range bytes {
		out[i-i%size+size-1-i%size] = bytes[i]
	}
	return out
}

// Values gives a tensor's numbers: float32 of a Float32, float64 of a Float64, uint16 of the bits
// of a BFloat16 or Float16. They are a view of its bytes, and a copy only where these do not lie
// at a multiple of the element's size or the machine is big-endian. What a reply of adamd holds is
// always a view. Another type is an error, nothing is converted.
func Values[T Number](t Tensor) ([]T, error) {
	var zero T
	size := int(unsafe.Sizeof(zero))
	fits := t.DType.Size() == size
	if !fits {
		return nil, fmt.Errorf("adamd: tensor %q is %s, which %T cannot hold", t.Name, t.DType, zero)
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	if len(t.Bytes) == 0 {
		return []T{}, nil
	}
	first := unsafe.Pointer(&t.Bytes[0])
	if littleEndian && uintptr(first)%uintptr(size) == 0 {
		return unsafe.Slice((*T)(first), len(t.Bytes)/size), nil
	}
	out := make([]T, len(t.Bytes)/size)
	into := unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), len(t.Bytes))
	if littleEndian {
		copy(into, t.Bytes)
	} else {
		copy(into, swapped(t.Bytes, size))
	}
	return out, nil
}

// Len is the number of elements that the shape says.
func (t Tensor) Len() int {
	n, _ := elements(t.Shape)
	return n
}

// elements multiplies a shape; false where it is negative or too large to be any.
func elements(shape []int) (int, bool) {
	n := 1
	for _, size := range shape {
		if size == 0 {
			return 0, true
		}
	}
	for _, size := range shape {
		if size < 0 || n > math.MaxInt/8/size {
			return 0, false
		}
		n *= size
	}
	return n, true
}

// check tells what is wrong with a tensor as it stands.
func (t Tensor) check() error {
	size := t.DType.Size()
	if size == 0 {
		return fmt.Errorf("adamd: tensor %q has dtype %q, expected F32, F64, BF16 or F16", t.Name, t.DType)
	}
	n, ok := elements(t.Shape)
	if !ok {
		return fmt.Errorf("adamd: tensor %q has shape %v, expected sizes of 0 and more", t.Name, t.Shape)
	}
	if n*size != len(t.Bytes) {
		return fmt.Errorf("adamd: tensor %q of shape %v takes %d bytes as %s, but has %d",
			t.Name, t.Shape, n*size, t.DType, len(t.Bytes))
	}
	return nil
}

// Tensors are tensors in an order; no two have the same name.
type Tensors []Tensor

// Get finds a tensor by name.
func (ts Tensors) Get(name string) (Tensor, bool) {
	for _, t := range ts {
		if t.Name == name {
			return t, true
		}
	}
	return Tensor{}, false
}

// Float32 is the numbers of the tensor of this name, as by Values.
func (ts Tensors) Float32(name string) ([]float32, error) { return valuesOf[float32](ts, name) }

// Float64 is the numbers of the tensor of this name, as by Values.
func (ts Tensors) Float64(name string) ([]float64, error) { return valuesOf[float64](ts, name) }

func valuesOf[T Number](ts Tensors, name string) ([]T, error) {
	t, ok := ts.Get(name)
	if !ok {
		return nil, fmt.Errorf("adamd: no tensor %q among %d", name, len(ts))
	}
	return Values[T](t)
}

// alignedBytes is a slice that begins at a multiple of 8.
func alignedBytes(n int) []byte {
	if n == 0 {
		return []byte{}
	}
	words := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n)
}

// headerLength reads the 8 bytes that a file begins with.
func headerLength(first []byte) uint64 { return binary.LittleEndian.Uint64(first) }
