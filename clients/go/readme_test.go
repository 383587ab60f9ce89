package adamd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The README's program runs as it stands there, against another port.
func TestReadme(t *testing.T) {
	if TestURL == "" {
		t.Skip("ADAMD_BINARY does not name the server")
	}
	text, err := os.ReadFile("README.md")
	must(t, err)
	_, program, _ := strings.Cut(string(text), "```go\n")
	program, _, _ = strings.Cut(program, "```")
	here, err := os.Getwd()
	must(t, err)
	directory := t.TempDir()
	for name, content := range map[string]string{
		"main.go": strings.ReplaceAll(program, "http://127.0.0.1:2326", TestURL),
		"go.mod": "module readme\n\ngo 1.19\n\nrequire github.com/adamd/adamd/clients/go v0.0.0\n\n" +
			"replace github.com/adamd/adamd/clients/go => " + here + "\n",
	} {
		must(t, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
	}
	run := exec.Command("go", "run", ".")
	run.Dir = directory
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want(t, "output", strings.TrimSpace(string(out)), "[0.0 -0.0]")
}
