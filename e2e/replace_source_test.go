package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestFilesAreLeftForAControlPlane replaces a node that follows files by one that follows a control plane and has
// nothing from it yet: it takes over when it has, not before.
func TestFilesAreLeftForAControlPlane(t *testing.T) {
	g := newGateway(t)
	port := service(t, "one")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config", "gateway.json"), fmt.Sprintf(`{"services":[{"name":"one","endpoints":[{"host":"127.0.0.1","port":%d}]}],"routes":[{"name":"main","path":"/main","service_id":"one"}]}`, port))
	n := &node{id: "n", http: address(t), https: address(t), status: address(t)}
	args := []string{"--http-addr", n.http, "--https-addr", n.https, "--status-addr", n.status, "--data-dir", filepath.Join(dir, "data")}
	n.process = launch(t, bin(t, "dataplane"), nil, append([]string{"--config", filepath.Join(dir, "config")}, args...)...)
	n.runs(1)
	stop := make(chan struct{})
	kept := start("http://"+n.http+"/main", 4, 100, stop)

	replace := func(controlPlane string) *process {
		t.Helper()
		p := launch(t, n.name, []string{"GATEWAY_JOIN_TOKEN=" + joinToken}, append([]string{"--replace", "--control-plane", controlPlane}, args...)...)
		waittest.UntilNil(t, "a process without a configuration", func() error {
			if !strings.Contains(p.logs(), "waiting for a configuration from the control plane") {
				return errors.New("it does not wait")
			}
			return nil
		})
		return p
	}
	// The control plane can't be reached, or has nothing: the node goes on with its files.
	for controlPlane, says := range map[string]string{address(t): "no control plane; the node goes on", g.stream: "following the control plane"} {
		p := replace(controlPlane)
		waittest.UntilNil(t, "what it hears of the control plane", func() error {
			if !strings.Contains(p.logs(), says) {
				return errors.New("nothing")
			}
			return nil
		})
		kept.goesOn(t, 10)
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Wait(); err == nil || !strings.Contains(p.logs(), "this process has no configuration, the running node follows files") {
			t.Errorf("it ended with %v:\n%s", err, p.logs())
		}
	}
	n.runs(1)

	p := replace(g.stream)
	_, revision, err := g.call("POST", "/api/v1/config/apply", fmt.Sprintf(`{"services":[{"name":"one","endpoints":[{"host":"127.0.0.1","port":%d}]}],"routes":[{"name":"main","path":"/main","service_id":"one"},{"name":"more","path":"/more","direct_response":{"body":"more"}}]}`, port))
	if err != nil {
		t.Fatal(err)
	}
	waittest.UntilNil(t, "what only the control plane has", func() error {
		if code, text := get(t, "http://"+n.http+"/more"); code != 200 || text != "more" {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	n.runs(revision)
	kept.goesOn(t, 10)
	close(stop)
	kept.check(t, "connections that are kept", 30)
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the process that followed files: %v", err)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("the process that follows the control plane ended with %d", code)
	}
}
