package adamd

import (
	"context"
	"os"
	"testing"
)

// BenchmarkStep is a step of 16 M float32 parameters: 64 MiB out, 64 MiB back.
func BenchmarkStep(b *testing.B) {
	if TestURL == "" {
		b.Skip("ADAMD_BINARY does not name the server")
	}
	server, err := startServer(os.Getenv("ADAMD_BINARY")) // without a data directory
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.stop() }()
	ctx := context.Background()
	client, err := New(server.url)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	opt := client.Optimizer("benchmark")
	grads := Tensors{NewTensor("w", make([]float32, 16<<20))}
	if _, err := opt.Create(ctx, grads); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(2 * 64 << 20)
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if _, err := opt.Step(ctx, grads); err != nil {
			b.Fatal(err)
		}
	}
}
