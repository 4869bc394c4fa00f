package e2e

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// nodeService starts a script of Node's that is a service and says its port first. Its complaints fail the test.
func nodeService(t *testing.T, script string) (port int) {
	t.Helper()
	var complaints bytes.Buffer
	cmd := exec.Command(tool(t, "node"), filepath.Join("testdata", "node", script))
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if complaints.Len() > 0 {
			t.Errorf("the service says: %s", complaints.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if port, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return port
}

// TestNodeTakesWebSocketOverHTTP2 has Node's HTTP/2, which has nothing in common with ours, as the service at the end
// of extended CONNECT, and Node's clients of both versions before the node.
func TestNodeTakesWebSocketOverHTTP2(t *testing.T) {
	f := newFront(t, map[string]any{
		"services": []any{map[string]any{"name": "ws", "protocol": "h2c", "endpoints": []any{map[string]any{"host": "127.0.0.1", "port": nodeService(t, "websocket-service.mjs")}}}},
		"routes":   []any{map[string]any{"name": "ws", "path": "/ws/*", "service_id": "ws"}},
	})
	if out, err := run(t, "node", filepath.Join("testdata", "node", "websocket.mjs"), f.http(), f.https(), f.dir); err != nil || !strings.Contains(out, "all is well") {
		t.Errorf("%v\n%s", err, out)
	}
}
