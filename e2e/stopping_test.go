package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
)

// balancer sends requests to a node until it has seen that the node is not ready, as what stands before nodes does.
type balancer struct {
	t      *testing.T
	status string
	away   atomic.Bool
	sent   atomic.Int64
	wg     sync.WaitGroup
}

// poll looks at /readyz now and then, and gives the node up when it says no.
func (b *balancer) poll() {
	b.wg.Go(func() {
		defer b.away.Store(true)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
			if status(b.status, "/readyz", 503) == nil {
				return
			}
			if err := status(b.status, "/readyz", 200); err != nil && status(b.status, "/readyz", 503) != nil {
				b.t.Errorf("/readyz says neither yes nor no: %v", err)
				return
			}
		}
		b.t.Error("/readyz has not said no within a minute")
	})
}

// send makes requests one after the other with a client, each of which has to be answered with 200. Clients do not send
// POST again by themselves.
func (b *balancer) send(name, method, url string, client *http.Client) {
	b.wg.Go(func() {
		defer client.CloseIdleConnections()
		for !b.away.Load() {
			req, err := http.NewRequest(method, url, nil)
			if err != nil {
				b.t.Error(err)
				return
			}
			res, err := client.Do(req)
			if err != nil {
				b.t.Errorf("%s: %v", name, err)
				return
			}
			text, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode != 200 {
				b.t.Errorf("%s: %d %s %v", name, res.StatusCode, text, err)
				return
			}
			b.sent.Add(1)
		}
	})
}

func client(http2, keep bool) *http.Client {
	tr := &http.Transport{DisableKeepAlives: !keep, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// stoppingNode starts a node with a service and returns its address and process.
func stoppingNode(t *testing.T, args ...string) (front, state string, p *process) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config", "gateway.yaml"), fmt.Sprintf(`
services: [{name: s, endpoints: [{host: 127.0.0.1, port: %d}]}]
routes: [{name: r, path: /*, service_id: s}]
`, service(t, "s")))
	front, state = address(t), address(t)
	p = launch(t, bin(t, "dataplane"), nil, append([]string{"--config", filepath.Join(dir, "config"), "--http-addr", front, "--https-addr", "", "--status-addr", state,
		"--data-dir", filepath.Join(dir, "data")}, args...)...)
	testserver.WaitFor(t, "node", func() error { return status(state, "/readyz", 200) })
	return front, state, p
}

// TestBalancersLoseNothing stops a node that balancers send to over connections of every kind: not one request fails,
// though they need a moment to see that the node is not ready any more.
func TestBalancersLoseNothing(t *testing.T) {
	t.Parallel()
	front, state, p := stoppingNode(t, "--shutdown-delay", "3s")
	b := &balancer{t: t, status: state}
	for n := range 2 {
		b.send(fmt.Sprint("HTTP/1.1, kept open ", n), "POST", "http://"+front, client(false, true))
		b.send(fmt.Sprint("HTTP/1.1, a connection each ", n), "POST", "http://"+front, client(false, false))
		b.send(fmt.Sprint("HTTP/2 ", n), "POST", "http://"+front, client(true, true))
	}
	testserver.WaitFor(t, "some traffic", func() error {
		if n := b.sent.Load(); n < 500 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	begin := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	testserver.WaitFor(t, "/readyz says no", func() error { return status(state, "/readyz", 503) })
	if res, err := http.Get("http://" + front); err != nil || !res.Close {
		t.Errorf("a request while the node leaves: %v, and no word that the connection ends", err)
	} else {
		_ = res.Body.Close()
	}
	b.poll()
	b.wg.Wait()
	_ = p.cmd.Wait()
	if took, code := time.Since(begin), p.cmd.ProcessState.ExitCode(); took < 3*time.Second || code != 0 {
		t.Errorf("the node has ended after %s with %d", took, code)
	}
	p.cmd = nil
}

// TestSecondSignalEndsTheDelay waits for no more than it takes to end.
func TestSecondSignalEndsTheDelay(t *testing.T) {
	t.Parallel()
	_, state, p := stoppingNode(t, "--shutdown-delay", "1h")
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	testserver.WaitFor(t, "/readyz says no", func() error { return status(state, "/readyz", 503) })
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	defer stop()
	_ = p.cmd.Wait()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the node has ended with %d, or not within 30s", code)
	}
	p.cmd = nil
}

// TestReplacedWhileItLeaves starts a process that takes over from a node that is leaving: nothing is refused, and the
// new one goes on.
func TestReplacedWhileItLeaves(t *testing.T) {
	t.Parallel()
	front, state, p := stoppingNode(t, "--shutdown-delay", "1h")
	b := &balancer{t: t, status: state}
	b.send("HTTP/1.1, a connection each", "POST", "http://"+front, client(false, false))
	b.send("HTTP/2", "POST", "http://"+front, client(true, true))
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	testserver.WaitFor(t, "/readyz says no", func() error { return status(state, "/readyz", 503) })
	launch(t, p.name, nil, append(p.args, "--replace")...)
	testserver.WaitFor(t, "the new process is ready", func() error { return status(state, "/readyz", 200) })
	_ = p.cmd.Wait()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the node has ended with %d", code)
	}
	p.cmd = nil
	before := b.sent.Load()
	testserver.WaitFor(t, "traffic goes on", func() error {
		if b.sent.Load() < before+20 {
			return fmt.Errorf("%d requests", b.sent.Load())
		}
		return nil
	})
	b.away.Store(true)
	b.wg.Wait()
}

// TestControlPlaneLeaves stops one that a node follows and that is asked all the time: the node is told at once, and no
// call fails.
func TestControlPlaneLeaves(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "--shutdown-delay", "3s")
	n := g.node("n1")
	testserver.WaitFor(t, "the node follows", func() error { return logged(g.control, "node connected") })
	b := &balancer{t: t, status: g.rest}
	b.send("kept open", "GET", "http://"+g.rest+"/healthz", client(false, true))
	b.send("a connection each", "GET", "http://"+g.rest+"/healthz", client(false, false))
	begin := time.Now()
	_ = g.control.cmd.Process.Signal(syscall.SIGTERM)
	testserver.WaitFor(t, "the node is sent away", func() error { return logged(g.control, "node disconnected") })
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the node was sent away after %s", took)
	}
	if res, err := http.Get("http://" + g.rest + "/healthz"); err != nil || !res.Close {
		t.Errorf("a call while it leaves: %v, and no word that the connection ends", err)
	} else {
		_ = res.Body.Close()
	}
	b.poll()
	b.wg.Wait()
	_ = g.control.cmd.Wait()
	if took, code := time.Since(begin), g.control.cmd.ProcessState.ExitCode(); took < 3*time.Second || code != 0 {
		t.Errorf("it has ended after %s with %d", took, code)
	}
	g.control.cmd = nil
	if err := status(n.status, "/healthz", 200); err != nil {
		t.Errorf("the node: %v", err)
	}
}

func logged(p *process, text string) error {
	if !strings.Contains(p.logs(), text) {
		return fmt.Errorf("nothing says %q", text)
	}
	return nil
}
