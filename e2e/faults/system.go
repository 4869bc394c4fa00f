package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

const (
	adminToken = "the-admin-token-of-the-faults"
	joinToken  = "the-join-token-of-the-faults"
)

// System is everything that runs.
type System struct {
	t        testing.TB
	postgres *testserver.PostgreSQL
	etcd     *testserver.Etcd
	replicas []*replica
	nodes    []*node
	services []int // ports: of a fixed endpoint and a registered one, and of one that registers later
	registry *clientv3.Client
	disk     string // where PostgreSQL's files are, when it is a small file system
	etcdDisk string // where etcd's are
	backup   string
	runs     int
}

// process is a binary that runs.
type process struct {
	t    testing.TB
	name string
	args []string
	cmd  *exec.Cmd

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.name, p.args...)
	p.cmd.Env = append(os.Environ(), "GATEWAY_ADMIN_TOKEN="+adminToken, "GATEWAY_JOIN_TOKEN="+joinToken)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func launch(t testing.TB, bin, name string, args ...string) *process {
	p := &process{t: t, name: filepath.Join(bin, name), args: args}
	p.start()
	t.Cleanup(p.kill)
	return p
}

// replica is a control plane, with the wires that lead to what it stands on.
type replica struct {
	*process
	rest, stream string
	store, etcd  *testserver.Wire
}

// node is a data plane.
type node struct {
	*process
	http, status string
}

// state is what a node runs.
type state struct {
	Epoch    string
	Revision uint32
}

// Start starts a system of the binaries in a folder. PostgreSQL has its files in dir.
func Start(t testing.TB, bin string) *System {
	t.Helper()
	s := &System{t: t}
	s.startPostgreSQL()
	s.startEtcd()
	var err error
	if s.registry, err = clientv3.New(clientv3.Config{Endpoints: []string{s.etcd.Endpoint}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.registry.Close() })
	for _, name := range []string{"one", "two"} {
		s.services = append(s.services, serve(t, name))
	}
	address := func() string { return fmt.Sprintf("127.0.0.1:%d", testserver.FreePort(t)) }
	_, rest, _ := strings.Cut(s.postgres.URL, "127.0.0.1")
	port, database, _ := strings.Cut(strings.TrimPrefix(rest, ":"), "/")
	var streams []string
	for range 3 {
		r := &replica{
			rest: address(), stream: address(),
			store: testserver.NewWire(t, "127.0.0.1:"+port, nil), etcd: testserver.NewWire(t, s.etcd.Endpoint, nil),
		}
		r.process = launch(t, bin, "controlplane", "--http-addr", r.rest, "--grpc-addr", address(), "--stream-addr", r.stream,
			"--data-dir", t.TempDir(), "--etcd-endpoints", r.etcd.Address,
			"--store", "postgres://gateway@"+r.store.Address+"/"+database)
		s.replicas = append(s.replicas, r)
		streams = append(streams, r.stream)
		waittest.UntilNil(t, "a control plane", func() error { return answers("http://" + r.rest + "/readyz") })
	}
	for i := range 3 {
		n := &node{http: address(), status: address()}
		rotated := append(streams[i:len(streams):len(streams)], streams[:i]...)
		n.process = launch(t, bin, "dataplane", "--control-plane", strings.Join(rotated, ","),
			"--http-addr", n.http, "--https-addr", "",
			"--status-addr", n.status, "--data-dir", t.TempDir(), "--node-id", fmt.Sprint("n", i))
		s.nodes = append(s.nodes, n)
	}
	s.register(s.services[0])
	a := attempt{message: "the first"}
	a.ask(http.DefaultClient, s.replicas[0].rest, fmt.Sprintf(`{
		"services":[{"name":"fixed","endpoints":[{"host":"127.0.0.1","port":%d}]},{"name":"found","discovery":{"etcd":{}}}],
		"routes":[{"name":"fixed","path":"/fixed","service_id":"fixed"},{"name":"found","path":"/found","service_id":"found"}]
	}`, s.services[0]))
	if a.outcome != acknowledged {
		t.Fatal(a.text)
	}
	for _, n := range s.nodes {
		waittest.UntilNil(t, "a node", func() error { return answers("http://" + n.http + "/found") })
	}
	return s
}

// serve answers with a name.
func serve(t testing.TB, name string) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }
	server := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// get returns the body of a good answer.
func get(url string, within time.Duration) (string, error) {
	client := &http.Client{Timeout: within, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, res.Status, text)
	}
	return string(text), err
}

// answers returns why a URL has no good answer.
func answers(url string) error {
	_, err := get(url, time.Second)
	return err
}

func (s *System) register(port int) {
	s.t.Helper()
	value := fmt.Sprintf(`{"id":"%d","name":"found","address":"127.0.0.1","port":%[1]d}`, port)
	s.inRegistry(func(ctx context.Context) error {
		_, err := s.registry.Put(ctx, fmt.Sprint("/services/found/", port), value)
		return err
	})
}

func (s *System) deregister(port int) {
	s.t.Helper()
	s.inRegistry(func(ctx context.Context) error {
		_, err := s.registry.Delete(ctx, fmt.Sprint("/services/found/", port))
		return err
	})
}

func (s *System) inRegistry(do func(context.Context) error) {
	s.t.Helper()
	waittest.UntilNil(s.t, "etcd", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return do(ctx)
	})
}

// runs returns what a node runs; nothing, when it does not say.
func (n *node) runs() (now state) {
	text, err := get("http://"+n.status+"/debug/config", time.Second)
	if err != nil || json.Unmarshal([]byte(text), &now) != nil {
		return state{}
	}
	return now
}

// awaitNodes waits until all nodes run a revision, or a later one, of one epoch, which is another one than former.
func (s *System) awaitNodes(t testing.TB, revision uint32, former string) {
	t.Helper()
	waittest.UntilNil(t, "all nodes", func() error {
		first := s.nodes[0].runs()
		for _, n := range s.nodes {
			if now := n.runs(); now.Revision < revision || now.Epoch != first.Epoch || now.Epoch == former {
				return fmt.Errorf("one runs %v, another one %v; want %d, not of epoch %q", now, first, revision, former)
			}
		}
		return nil
	})
}

// awaitTraffic waits until all nodes send requests to the instance that registered last, and returns how long after a
// time that was.
func (s *System) awaitTraffic(since time.Time) time.Duration {
	for end := time.Now().Add(Limit); time.Now().Before(end); pause(20 * time.Millisecond) {
		all := true
		for _, n := range s.nodes {
			one := false
			for range 2 {
				text, _ := get("http://"+n.http+"/found", time.Second)
				one = one || text == "two"
			}
			all = all && one
		}
		if all {
			return time.Since(since)
		}
	}
	return -1
}

// history returns the revisions by message, once the control plane that is asked knows one of them: it may be behind
// the others for a moment, and then lists what it knows.
func (s *System) history(t testing.TB, newest string) (all map[string][]uint32) {
	t.Helper()
	waittest.Until(t, "the history to have what was committed last", func() bool {
		all = map[string][]uint32{}
		for number, message := range s.revisions(t) {
			all[message] = append(all[message], number)
		}
		return len(all[newest]) > 0
	})
	return all
}

// revisions returns the messages of all revisions.
func (s *System) revisions(t testing.TB) map[uint32]string {
	t.Helper()
	all := map[uint32]string{}
	const perPage = 1000
	for page := 1; ; page++ {
		url := fmt.Sprintf("http://%s/api/v1/config/revisions?page=%d&per_page=%d", s.replicas[0].rest, page, perPage)
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var reply struct {
			Data []struct {
				Number  uint32
				Message string
			}
			Error *struct{ Message string }
		}
		err = json.NewDecoder(res.Body).Decode(&reply)
		_ = res.Body.Close()
		if err != nil || reply.Error != nil {
			t.Fatalf("the history: %v %v", err, reply.Error)
		}
		for _, r := range reply.Data {
			all[r.Number] = r.Message
		}
		if len(reply.Data) < perPage {
			return all
		}
	}
}

// logged returns how many lines the control planes have logged of warnings and errors.
func (s *System) logged() (lines int) {
	for _, r := range s.replicas {
		lines += strings.Count(r.text(), "level=ERROR") + strings.Count(r.text(), "level=WARN")
	}
	return lines
}
