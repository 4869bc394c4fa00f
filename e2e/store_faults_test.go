package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// commitFault is what happens to the connection that a commit goes over, as the commit is sent.
type commitFault int32

const (
	commitPasses  commitFault = iota
	commitIsLost              // the server never gets it
	answerIsLost              // it is done, and the control plane is not told
	serverDies                // nobody knows
	wireSwallows              // nothing comes through, in both directions, for a while
	commitFaults  = int(wireSwallows) + 1
	swallowsFor   = 3 * time.Second
	commitMessage = "commit"
)

// fragile is PostgreSQL behind a wire that fails as a commit is sent.
type fragile struct {
	*testserver.PostgreSQL
	wire  *testserver.Wire
	next  atomic.Int32 // the commitFault of the next commit
	faced chan commitFault
}

func newFragile(t *testing.T) *fragile {
	t.Helper()
	f := &fragile{PostgreSQL: testserver.NewPostgreSQL(t), faced: make(chan commitFault, 1)}
	_, after, _ := strings.Cut(f.URL, "@")
	target, _, _ := strings.Cut(after, "/")
	f.wire = testserver.NewWire(t, target, f.pass)
	return f
}

// url is that of the database over the wire.
func (f *fragile) url() string {
	before, after, _ := strings.Cut(f.URL, "@")
	_, database, _ := strings.Cut(after, "/")
	return before + "@" + f.wire.Address + "/" + database
}

func (f *fragile) pass(_, server net.Conn, message []byte) bool {
	if !bytes.Contains(message, []byte(commitMessage)) || f.next.Load() == int32(commitPasses) {
		return true
	}
	switch fault := commitFault(f.next.Swap(int32(commitPasses))); fault {
	case commitIsLost:
		f.faced <- fault
		return false
	case answerIsLost:
		_, _ = server.Write(message)
		f.faced <- fault
		return false
	case wireSwallows:
		f.wire.Freeze()
		f.faced <- fault
	case serverDies:
		f.faced <- fault
	}
	return true
}

// mend ends what a fault has done.
func (f *fragile) mend(fault commitFault) {
	switch fault {
	case serverDies:
		f.Stop()
		f.Start()
	case wireSwallows:
		time.AfterFunc(swallowsFor, f.wire.Thaw)
	}
}

// keyedRoute is a configuration whose only route wants a key.
const keyedRoute = `{"routes": [{"name": "r", "path": "/", "pipeline_id": "p", "direct_response": {"body": "x"}}],
	"middleware": [{"name": "keys", "type": "api_key", "order": 1, "config": {}}],
	"pipelines": [{"name": "p", "middleware_ids": ["keys"]}]}`

// withFleet starts two control planes on a store, one of them over the wire, and a node at each that knows both.
func withFleet(t *testing.T, f *fragile) (control []*gateway, nodes []*node) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	for i, url := range []string{f.url(), f.URL} {
		control = append(control, newGateway(t, "--store", url, "--encryption-key-file", key))
		if i == 0 {
			mustApply(control[0], keyedRoute)
		}
	}
	for i, g := range control {
		nodes = append(nodes, g.node(fmt.Sprint("n", i), "--control-plane", control[1-i].stream))
		nodes[i].runs(1)
	}
	return control, nodes
}

// lets waits until all nodes answer a key with a status.
func lets(t *testing.T, nodes []*node, key string, status int) {
	t.Helper()
	for _, n := range nodes {
		waittest.UntilNil(t, fmt.Sprintf("%d for %s on %s", status, key, n.id), func() error {
			if a := n.ask("/", "X-Api-Key", key); a.status != status {
				return fmt.Errorf("it is %d", a.status)
			}
			return nil
		})
	}
}

// TestConsumersOutliveTheStore takes PostgreSQL away in the middle of commits that make and revoke consumers: a client
// that repeats its request until it is told how that ended makes nothing twice, and what the store, the audit trail and
// the nodes have is the same afterwards.
func TestConsumersOutliveTheStore(t *testing.T) {
	t.Parallel()
	f := newFragile(t)
	control, nodes := withFleet(t, f)
	const path = "/api/v1/config/consumers"
	// repeat asks until it is told that what it asks for is done, or was done.
	repeat := func(method, path, body, done string, fault commitFault) {
		t.Helper()
		f.next.Store(int32(fault))
		mended := make(chan struct{})
		go func() {
			defer close(mended)
			f.mend(<-f.faced)
		}()
		waittest.UntilNil(t, fmt.Sprintf("%s %s through fault %d", method, path, fault), func() error {
			_, _, err := control[0].call(method, path, body)
			if err != nil && strings.HasPrefix(err.Error(), done) {
				return nil
			}
			return err
		})
		<-mended
		waittest.UntilNil(t, "the store", func() error { return status(control[0].rest, "/readyz", 200) })
	}
	made := 0
	for round := range 2 {
		for fault := commitIsLost; int(fault) < commitFaults; fault++ {
			name := fmt.Sprintf("c-%d-%d", round, fault)
			text, err := json.Marshal(withOneKey(name, "key-of-"+name+"-0123456789"))
			if err != nil {
				t.Fatal(err)
			}
			repeat("POST", path, string(text), "ALREADY_EXISTS", fault)
			lets(t, nodes, "key-of-"+name+"-0123456789", 200)
			made++
			if round == 1 {
				repeat("DELETE", path+"/"+name, "", "NOT_FOUND", fault)
				lets(t, nodes, "key-of-"+name+"-0123456789", 401)
			}
		}
	}
	agree(t, control, nodes, made)
}

// agree checks that revisions are without gaps, that each has one entry in the audit trail and one consumer, none of
// which was made or removed twice, and that the nodes run the newest.
func agree(t *testing.T, control []*gateway, nodes []*node, made int) {
	t.Helper()
	for i, g := range control {
		data, head, err := g.call("GET", "/api/v1/config/consumers?per_page=1000", "")
		if err != nil {
			t.Fatal(err)
		}
		var consumers []struct{ Name string }
		if err := json.Unmarshal(data, &consumers); err != nil {
			t.Fatal(err)
		}
		if len(consumers) != made/2 || head != 1+made+made/2 {
			t.Errorf("control plane %d has %d consumers at revision %d; %d at %d were made", i, len(consumers), head,
				made/2, 1+made+made/2)
		}
		if data, _, err = g.call("GET", "/api/v1/audit?outcome=done&per_page=1000", ""); err != nil {
			t.Fatal(err)
		}
		var entries []struct {
			Revision int
			Code     string
		}
		if err := json.Unmarshal(data, &entries); err != nil {
			t.Fatal(err)
		}
		seen := map[int]int{}
		for _, e := range entries {
			seen[e.Revision]++
		}
		for n := 1; n <= head; n++ {
			if seen[n] != 1 {
				t.Errorf("control plane %d: revision %d has %d entries in the audit trail", i, n, seen[n])
			}
		}
		for _, n := range nodes {
			n.runs(head)
		}
	}
}

// TestRevokedWithoutNotifications revokes a key, a token of the admin API and a node while one control plane hears of
// nothing by itself: they are refused everywhere within the six seconds that its looks take.
func TestRevokedWithoutNotifications(t *testing.T) {
	t.Parallel()
	f := newFragile(t)
	control, nodes := withFleet(t, f)
	const key = "the-key-that-is-revoked-0123456789"
	text, err := json.Marshal(withOneKey("c", key))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := control[1].call("POST", "/api/v1/config/consumers", string(text)); err != nil {
		t.Fatal(err)
	}
	made := control[1].must("", "token", "create", "t", "--role", "viewer")
	token := regexp.MustCompile(`gwa_[A-Za-z0-9_-]+`).FindString(made)
	lets(t, nodes, key, 200)
	whoami := func(g *gateway) (string, bool) {
		cmd := exec.Command(bin(t, "gatewayctl"), "whoami")
		cmd.Env = append(os.Environ(), "GATEWAYCTL_SERVER="+g.grpc, "GATEWAYCTL_TOKEN="+token)
		out, err := cmd.CombinedOutput()
		return string(out), err == nil
	}
	waittest.UntilNil(t, "the token at the other control plane", func() error {
		if out, ok := whoami(control[0]); !ok {
			return errors.New(out)
		}
		return nil
	})
	f.silence(t)
	begun := time.Now()
	if _, _, err := control[1].call("DELETE", "/api/v1/config/consumers/c", ""); err != nil {
		t.Fatal(err)
	}
	control[1].must("", "token", "revoke", "t")
	control[1].must("", "nodes", "revoke", "n0")
	lets(t, nodes, key, 401)
	waittest.UntilNil(t, "the token is refused", func() error {
		if out, ok := whoami(control[0]); ok {
			return errors.New(out)
		}
		return nil
	})
	waittest.UntilNil(t, "the node is refused", func() error {
		if !strings.Contains(nodes[0].logs(), "is revoked") {
			return errors.New("it is not")
		}
		return nil
	})
	if took := time.Since(begun); took > 6*time.Second+waitsFor {
		t.Errorf("that took %v", took)
	}
}

// waitsFor is what a busy machine adds to the time that something takes.
const waitsFor = 4 * time.Second

// silence ends the sessions that listen to notifications, of all that go over the wire or not, again and again.
func (f *fragile) silence(t *testing.T) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			_, _ = f.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'")
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}
