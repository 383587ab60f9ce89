package adamd

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain starts the adamd that ADAMD_BINARY names. Without it, what needs one is left out.
func TestMain(m *testing.M) {
	flag.Parse()
	binary := os.Getenv("ADAMD_BINARY")
	if binary == "" {
		fmt.Println("ADAMD_BINARY does not name the server: without the tests that need it")
		if flag.Lookup("test.run").Value.String() == "" {
			_ = flag.Set("test.run", "^Test") // no examples
		}
		os.Exit(m.Run())
	}
	directory, err := os.MkdirTemp("", "adamd-go-")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	server, err := startServer(binary, "--data-dir", directory, "--heartbeat", "1")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	TestURL = server.url
	code := m.Run()
	if err := firstOf(server.stop(), os.RemoveAll(directory)); err != nil {
		fmt.Println("adamd, stopped:", err)
		code = 1
	}
	os.Exit(code)
}

type realServer struct {
	command *exec.Cmd
	url     string
}

func startServer(binary string, options ...string) (*realServer, error) {
	command := exec.Command(binary, append([]string{"--port", "0", "--log-level", "error"}, options...)...)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	_, url, ok := strings.Cut(strings.TrimSpace(said), " listening on ")
	if err != nil || !ok {
		return nil, fmt.Errorf("%s said %q, expected \"adamd ... listening on\"", binary, said)
	}
	return &realServer{command, url}, nil
}

func (s *realServer) stop() error {
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.command.Wait()
}

// live is a client of the real server, and a handle on an optimizer of the test's own.
func live(t *testing.T, options ...Option) (context.Context, *Client, *Optimizer) {
	t.Helper()
	if TestURL == "" {
		t.Skip("ADAMD_BINARY does not name the server")
	}
	client, err := New(TestURL, options...)
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	opt := client.Optimizer(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	t.Cleanup(func() {
		if err := opt.Delete(ctx); err != nil && !errors.Is(err, NoSuchOptimizer) {
			t.Error(err)
		}
		cancel()
		client.Close()
	})
	return ctx, client, opt
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want compares what prints alike.
func want(t *testing.T, what string, got, expected any) {
	t.Helper()
	if a, b := fmt.Sprintf("%v", got), fmt.Sprintf("%v", expected); a != b {
		t.Errorf("%s is %s, expected %s", what, a, b)
	}
}

// line is values with spaces between.
func line(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }
