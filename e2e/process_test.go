// Package e2e tests the whole system: the real binaries, real PostgreSQL, real services, and SIGKILL where the promise
// is that nothing is lost.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

const (
	adminToken = "the-admin-token-of-the-tests"
	joinToken  = "the-join-token-of-the-tests"
)

// bin returns the folder of the built binaries.
func bin(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not built: make build", path)
	}
	return path
}

// process is a running binary.
type process struct {
	t    testing.TB
	name string
	args []string
	env  []string
	cmd  *exec.Cmd
	log  bytes.Buffer
	mu   sync.Mutex
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) logs() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func launch(t testing.TB, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, args: args, env: env}
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s logged:\n%s", name, p.logs())
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.name, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process and its children at once, without a chance to say goodbye.
func (p *process) kill() {
	if p.cmd != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// terminate ends it in an orderly way and returns its exit code.
func (p *process) terminate() int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// gateway is a control plane and what is needed to speak with it.
type gateway struct {
	t                  testing.TB
	rest, grpc, stream string
	control            *process
	dir                string
}

func address(t testing.TB) string { return "127.0.0.1:" + strconv.Itoa(testserver.FreePort(t)) }

func newGateway(t testing.TB, args ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, rest: address(t), grpc: address(t), stream: address(t), dir: t.TempDir()}
	g.control = launch(t, bin(t, "controlplane"), []string{"GATEWAY_ADMIN_TOKEN=" + adminToken, "GATEWAY_JOIN_TOKEN=" + joinToken},
		append([]string{"--http-addr", g.rest, "--grpc-addr", g.grpc, "--stream-addr", g.stream, "--data-dir", filepath.Join(g.dir, "control")}, args...)...)
	g.ready()
	return g
}

func (g *gateway) ready() {
	g.t.Helper()
	waittest.UntilNil(g.t, "control plane", func() error { return status(g.rest, "/readyz", 200) })
}

func status(address, path string, want int) error {
	res, err := http.Get("http://" + address + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s%s: %d %s", address, path, res.StatusCode, text)
	}
	return nil
}

// ctl runs gatewayctl and returns what it prints and its exit code.
func (g *gateway) ctl(stdin string, args ...string) (string, int) {
	g.t.Helper()
	cmd := exec.Command(bin(g.t, "gatewayctl"), args...)
	cmd.Env = append(os.Environ(), "GATEWAYCTL_SERVER="+g.grpc, "GATEWAYCTL_TOKEN="+adminToken)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (g *gateway) must(stdin string, args ...string) string {
	g.t.Helper()
	out, code := g.ctl(stdin, args...)
	if code != 0 {
		g.t.Fatalf("gatewayctl %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// call makes a REST call and returns the reply's data and revision.
func (g *gateway) call(method, path, body string) (data json.RawMessage, revision int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), waittest.Limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.rest+path, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	var reply struct {
		Data  json.RawMessage
		Error *struct{ Code, Message string }
		Meta  struct{ Revision int }
	}
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil {
		return nil, 0, err
	}
	if reply.Error != nil {
		return nil, 0, fmt.Errorf("%s: %s", reply.Error.Code, reply.Error.Message)
	}
	return reply.Data, reply.Meta.Revision, nil
}

// node is a data plane.
type node struct {
	*process
	id, http, https, status string
}

func (g *gateway) node(id string, args ...string) *node {
	g.t.Helper()
	n := &node{id: id, http: address(g.t), https: address(g.t), status: address(g.t)}
	n.process = launch(g.t, bin(g.t, "dataplane"), []string{"GATEWAY_JOIN_TOKEN=" + joinToken},
		append([]string{"--control-plane", g.stream, "--http-addr", n.http, "--https-addr", n.https, "--status-addr", n.status, "--data-dir", filepath.Join(g.dir, id), "--node-id", id}, args...)...)
	return n
}

// runs waits until a node runs a revision.
func (n *node) runs(revision int) {
	n.t.Helper()
	waittest.UntilNil(n.t, fmt.Sprintf("node %s on revision %d", n.id, revision), func() error {
		res, err := http.Get("http://" + n.status + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var ready struct{ Revision int }
		if err := json.NewDecoder(res.Body).Decode(&ready); err != nil {
			return err
		}
		if ready.Revision != revision {
			return fmt.Errorf("it runs %d", ready.Revision)
		}
		return nil
	})
}

// service is a small HTTP server that says its name.
func service(t testing.TB, name string) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name) }), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// get returns a response's status and body.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
