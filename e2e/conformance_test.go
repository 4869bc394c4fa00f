package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
)

// TestGRPCConformance runs the Connect project's conformance suite for gRPC and gRPC-Web through a node: its reference
// client and grpc-go's before its reference server and grpc-go's, without TLS and with it. Behind a service of protocol
// grpc the node translates gRPC-Web; with others it passes it on.
func TestGRPCConformance(t *testing.T) {
	suite, err := testserver.FindTool(filepath.Join("conformance", "connectconformance"))
	if err != nil {
		t.Fatal(err)
	}
	// grpc-go ends calls with too many messages, or too few, with INTERNAL instead of UNIMPLEMENTED: its own list of known
	// failures has these too.
	cardinality := []string{"**/unary/multiple-requests", "**/unary/no-request", "**/server-stream/multiple-requests", "**/server-stream/no-request"}
	responses := []string{"**/unary/multiple-responses", "**/unary/ok-but-no-response", "**/client-stream/multiple-responses", "**/client-stream/ok-but-no-response"}
	const (
		all  = "{versions: [HTTP_VERSION_1, HTTP_VERSION_2], protocols: [PROTOCOL_GRPC, PROTOCOL_GRPC_WEB], codecs: [CODEC_PROTO], compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]"
		grpc = "{versions: [HTTP_VERSION_2], protocols: [PROTOCOL_GRPC], codecs: [CODEC_PROTO]"
	)
	for _, c := range []struct {
		name, role, behind, features string
		failing                      []string // have to fail
		flaky                        []string // may
	}{
		{name: "before connect-go", role: "server", behind: "referenceserver", features: all},
		{name: "before grpc-go", role: "server", behind: "grpcserver", features: all, failing: cardinality},
		// The gateway takes a status that does not exist for a malformed response, which is UNAVAILABLE to callers, not
		// UNKNOWN.
		{name: "behind grpc-go", role: "client", behind: "grpcclient", features: grpc + ", supportsTls: false", failing: responses, flaky: []string{"**/nonexistent-http-status-code"}},
		{
			name: "behind connect-go", role: "client", behind: "referenceclient", features: all + ", supportsTls: false",
			flaky: []string{"**/nonexistent-http-status-code"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			behind, err := testserver.FindTool(filepath.Join("conformance", c.behind))
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			features := filepath.Join(folder, "features.yaml")
			write(t, features, "features: "+c.features+"}\n")
			args := []string{"--mode", c.role, "--conf", features}
			for _, pattern := range c.failing {
				args = append(args, "--known-failing", pattern)
			}
			for _, pattern := range c.flaky {
				args = append(args, "--known-flaky", pattern)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, suite, append(args, "--", os.Args[0])...)
			cmd.Env = append(os.Environ(), roleVariable+"="+c.role, behindVariable+"="+behind, nodeVariable+"="+bin(t, "dataplane"), folderVariable+"="+folder)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, verdicts(string(out)))
			}
			if !regexp.MustCompile(`Total cases: \d{3,}\n`).Match(out) {
				t.Errorf("the suite did not come to its end:\n%s", out)
			}
		})
	}
}

// verdicts returns what the suite says, without what nodes log and what fails as expected.
func verdicts(report string) string {
	var b strings.Builder
	expected := false
	for line := range strings.Lines(report) {
		if !strings.HasPrefix(line, "\t") {
			expected = strings.HasPrefix(line, "INFO: ")
		}
		if !expected && !strings.HasPrefix(line, "time=") {
			b.WriteString(line)
		}
	}
	return b.String()
}
