package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestTour types what the README's tour shows, in its order, at other ports.
func TestTour(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, tour, found := strings.Cut(string(text), "\n## Five minutes\n")
	if !found {
		t.Fatal("the README has no tour")
	}
	tour, _, _ = strings.Cut(tour, "\n## ")
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(tour, -1) {
		script.WriteString(block[1])
	}

	dir := t.TempDir()
	if err := os.Symlink(filepath.Dir(bin(t, "gatewayctl")), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	proxy, status, rest, grpc := address(t), address(t), address(t), address(t)
	d := launch(t, bin(t, "gatewayctl"), nil, "dev", "--data-dir", filepath.Join(dir, "data", "dev"), "--http-addr", proxy, "--https-addr", address(t), "--status-addr", status, "--rest-addr", rest, "--grpc-addr", grpc, "--stream-addr", address(t))
	waittest.UntilNil(t, "dev", func() error {
		if !strings.Contains(d.logs(), "The gateway is ready") {
			return fmt.Errorf("%s", d.logs())
		}
		return nil
	})
	typed := strings.NewReplacer("127.0.0.1:8080", proxy, "127.0.0.1:8081", status, "127.0.0.1:9080", rest).Replace(script.String())
	// A person is slower than the stream; a script has to wait until the node runs what was changed.
	cmd := exec.Command("bash", "-c", settled+typed)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GATEWAYCTL_SERVER="+grpc)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the last command failed: %v", err)
	}
	left := string(out)
	for _, want := range []string{
		`"instance": "demo-`, "hello", "connected", "+ route hello-you", "revision 2: 3 created", "X-Polite: yes", `"path": "/greet/you"`,
		`did you mean "demo"`, `route "demo" disabled`, "404 Not Found", `"code":"ROUTE_NOT_FOUND"`, "greet people", "revision 4", `"path": "/demo/hello"`, `"success":true`, `gateway_requests_total{method="GET",route="demo"`,
	} {
		_, after, found := strings.Cut(left, want)
		if !found {
			t.Fatalf("%q does not come, or not in its turn, in\n%s", want, out)
		}
		left = after
	}
}

// TestExamples checks that what deploy shows is valid.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("..", "deploy", "examples", "*", ""))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range folders {
		if s, err := os.Stat(f); err != nil || !s.IsDir() {
			continue
		}
		n++
		if out, err := exec.Command(bin(t, "gatewayctl"), "validate", "--offline", "-f", f).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", f, out)
		}
	}
	if n == 0 {
		t.Error("there are no examples")
	}
}
