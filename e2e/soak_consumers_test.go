package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

var soakConsumers = flag.Int("consumers", 0, "TestSoakOfConsumers: how many; 0: none")

const (
	// consumersOfAnApply is how many are put at once.
	consumersOfAnApply = 50_000
	// keyChanges is how many keys are made and revoked.
	keyChanges = 20
	// soonEnough is how long a key that was made, or revoked, may take until it counts on a node.
	soonEnough = time.Second
)

// TestSoakOfConsumers (make soak-consumers) gives one control plane and two nodes many consumers with a key each, and
// measures what that takes, and how soon a key that is made or revoked counts on both. It fails where that takes longer
// than soonEnough, or where a change brings a node more than a few kilobytes.
func TestSoakOfConsumers(t *testing.T) {
	if *soakConsumers == 0 {
		t.Skip("make soak-consumers runs it")
	}
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(service.Close)
	host, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	g := newGateway(t)
	revision := mustApply(g, fmt.Sprintf(`{"services": [{"name": "s", "endpoints": [{"host": %q, "port": %s}]}],
		"routes": [{"name": "r", "path": "/*", "service_id": "s", "pipeline_id": "p"}],
		"middleware": [{"name": "keys", "type": "api_key", "order": 1, "config": {}}],
		"pipelines": [{"name": "p", "middleware_ids": ["keys"]}]}`, host, port))
	nodes, counted := make([]*node, 2), make([]*atomic.Int64, 2)
	bare := make([]float64, 2)
	for i := range nodes {
		var through string
		through, counted[i] = counting(t, g.stream)
		own := *g
		own.stream = through
		nodes[i] = own.node(fmt.Sprint("n", i))
		nodes[i].runs(revision)
		bare[i] = mustResident(t, nodes[i].process)
	}
	begun := time.Now()
	for from := 0; from < *soakConsumers; from += consumersOfAnApply {
		var all []any
		for i := from; i < min(from+consumersOfAnApply, *soakConsumers); i++ {
			all = append(all, withOneKey(fmt.Sprintf("consumer-%07d", i), fmt.Sprintf("a-key-of-many-number-%07d", i)))
		}
		text, err := json.Marshal(map[string]any{"consumers": all})
		if err != nil {
			t.Fatal(err)
		}
		revision = mustApply(g, string(text))
	}
	committed := time.Since(begun)
	for _, n := range nodes {
		n.runs(revision)
	}
	t.Logf("%d consumers with a key each: committed in %v, on both nodes after %v", *soakConsumers, committed,
		time.Since(begun))
	for i, n := range nodes {
		disk, err := sizeOf(filepath.Join(g.dir, n.id))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("node %s: %.1f MiB in memory, of which %.1f without them; %.0f bytes each on disk, %.0f on the wire", n.id,
			mustResident(t, n.process), bare[i], disk/float64(*soakConsumers),
			float64(counted[i].Load())/float64(*soakConsumers))
	}
	t.Logf("control plane: %.1f MiB in memory", mustResident(t, g.control))

	before := counted[0].Load()
	var made, revoked time.Duration
	for i := range keyChanges {
		name, key := fmt.Sprint("another-", i), fmt.Sprintf("a-key-that-is-new-%d", i)
		text, err := json.Marshal(withOneKey(name, key))
		if err != nil {
			t.Fatal(err)
		}
		made = max(made, changeOfAKey(g, nodes, "POST", "/api/v1/config/consumers", string(text), key, 200))
		revoked = max(revoked, changeOfAKey(g, nodes, "DELETE", "/api/v1/config/consumers/"+name, "", key, 401))
	}
	bytes := (counted[0].Load() - before) / (2 * keyChanges)
	t.Logf("a new key counts on both nodes %v after the call at most, a revoked one %v; a change is %d bytes to a node",
		made, revoked, bytes)
	if made > soonEnough || revoked > soonEnough {
		t.Errorf("it takes longer than %v", soonEnough)
	}
	if bytes > 10_000 {
		t.Errorf("more than the change is sent: %d bytes", bytes)
	}
}

func withOneKey(name, key string) map[string]any {
	return map[string]any{
		"name": name, "groups": []string{"partners"},
		"credentials": map[string]any{"api_keys": []any{map[string]any{"name": "default", "key": key}}},
	}
}

func mustApply(g *gateway, text string) (revision int) {
	g.t.Helper()
	_, revision, err := g.call("POST", "/api/v1/config/apply", text)
	if err != nil {
		g.t.Fatal(err)
	}
	return revision
}

func mustResident(t *testing.T, p *process) float64 {
	t.Helper()
	mib, err := resident(p)
	if err != nil {
		t.Fatal(err)
	}
	return mib
}

// changeOfAKey makes a change, and returns how long after its call both nodes answer a request with the key with a
// status.
func changeOfAKey(g *gateway, nodes []*node, method, path, body, key string, status int) time.Duration {
	g.t.Helper()
	if _, _, err := g.call(method, path, body); err != nil {
		g.t.Fatal(err)
	}
	done := time.Now()
	for _, n := range nodes {
		waittest.UntilNil(g.t, fmt.Sprintf("status %d for a key on %s", status, n.id), func() error {
			if a := n.ask("/", "X-Api-Key", key); a.status != status {
				return fmt.Errorf("it is %d", a.status)
			}
			return nil
		})
	}
	return time.Since(done)
}

// counting passes connections on to an address, and counts what comes back.
func counting(t *testing.T, to string) (address string, bytes *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	bytes = &atomic.Int64{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				up, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer up.Close()
				go func() {
					_, _ = io.Copy(up, c)
					_ = up.Close()
				}()
				_, _ = io.Copy(io.MultiWriter(c, counter{bytes}), up)
			}()
		}
	}()
	return l.Addr().String(), bytes
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}
