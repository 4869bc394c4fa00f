package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// keyed is control planes on one store whose secrets are encrypted.
type keyed struct {
	t       *testing.T
	server  *testserver.PostgreSQL
	key     string // the file
	control []*gateway
}

func newKeyed(t *testing.T) *keyed {
	t.Helper()
	k := &keyed{t: t, server: testserver.NewPostgreSQL(t), key: filepath.Join(t.TempDir(), "key")}
	write(t, k.key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
	for range 2 {
		k.control = append(k.control, newGateway(t, "--store", k.server.URL, "--encryption-key-file", k.key))
	}
	return k
}

// rotate makes a new data key, and is killed after a while; 0: it is not.
func (k *keyed) rotate(after time.Duration) (said string, err error) {
	cmd := exec.Command(bin(k.t, "controlplane"), "rotate-keys", "--store", k.server.URL,
		"--encryption-key-file", k.key)
	cmd.Env = os.Environ()
	if after > 0 {
		timer := time.AfterFunc(after, func() {
			if cmd.Process != nil {
				_ = cmd.Process.Kill()
			}
		})
		defer timer.Stop()
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// restart kills all control planes, and starts them anew: they know what is in the store, and no more.
func (k *keyed) restart() {
	k.t.Helper()
	for _, g := range k.control {
		g.control.kill()
	}
	for _, g := range k.control {
		g.control.start()
		g.ready()
	}
}

// sql returns the one value that a query has.
func (k *keyed) sql(query string) string {
	k.t.Helper()
	out, err := k.server.SQL(query)
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}

// hmacSecret is a consumer with a secret that has to be known later.
func hmacSecret(name string) map[string]any {
	return map[string]any{"name": name, "credentials": map[string]any{
		"hmac": []any{map[string]any{"id": "id-of-" + name, "secret": "secret-of-" + name + "-0123456789abcdef"}},
	}}
}

func (k *keyed) put(g *gateway, names ...string) error {
	var all []any
	for _, name := range names {
		all = append(all, hmacSecret(name))
	}
	text, err := json.Marshal(map[string]any{"consumers": all})
	if err == nil {
		_, _, err = g.call("POST", "/api/v1/config/apply", string(text))
	}
	return err
}

// sealedByOthers counts what is encrypted by another data key than the newest, or not at all.
func (k *keyed) sealedByOthers() string {
	const head = "substring(%s from 1 for 12) <> decode('00677701', 'hex') || int8send((SELECT max(id) FROM data_keys))"
	body, after := fmt.Sprintf(head, "body"), fmt.Sprintf(head, "after")
	return k.sql("SELECT (SELECT count(*) FROM consumers WHERE " + body + ") + " +
		"(SELECT count(*) FROM revision_changes WHERE kind = 'consumer' AND " + after + ")")
}

// TestRotationIsKilled kills rotate-keys at several points while two control planes write: nothing that was
// acknowledged is lost or unreadable, and once it has come to its end nothing is encrypted with the data keys before,
// nor is what is written later.
func TestRotationIsKilled(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	var names []string
	for i := range 700 {
		names = append(names, fmt.Sprint("many-", i))
	}
	if err := k.put(k.control[0], names...); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	made := make([]int, len(k.control))
	var writers sync.WaitGroup
	for i, g := range k.control {
		writers.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if err := k.put(g, fmt.Sprintf("written-%d-%d", i, made[i])); err != nil {
					t.Errorf("control plane %d: %v", i, err)
					return
				}
				made[i]++
			}
		})
	}
	begun := time.Now()
	if said, err := k.rotate(0); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	whole, killed := time.Since(begun), 0
	const points = 3
	for i := range points {
		if _, err := k.rotate(whole * time.Duration(i+1) / (points + 1)); err != nil {
			killed++
		}
	}
	if said, err := k.rotate(0); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if n := k.sealedByOthers(); n != "0" {
		t.Errorf("%s are not encrypted with the new data key", n)
	}
	close(stop)
	writers.Wait()
	if n := k.sealedByOthers(); n != "0" {
		t.Errorf("%s that were written later are not encrypted with the new data key", n)
	}
	k.restart()
	want := len(names) + made[0] + made[1]
	for i, g := range k.control {
		waittest.UntilNil(t, "all consumers", func() error {
			data, _, err := g.call("GET", "/api/v1/config/consumers?per_page=1", "")
			if err != nil || !strings.HasPrefix(string(data), "[") {
				return errors.Join(err, errors.New(string(data)))
			}
			return nil
		})
		if n := k.sql("SELECT count(*) FROM consumers"); n != fmt.Sprint(want) {
			t.Errorf("control plane %d: %s consumers, %d were acknowledged", i, n, want)
		}
	}
	t.Logf("%d of %d rotations were killed, one takes %v; %d consumers were written meanwhile", killed, points, whole,
		made[0]+made[1])
	if killed == 0 {
		t.Error("none was killed: this test sees nothing")
	}
}

// TestBackupFromBeforeAnotherDataKey restores a backup that has neither the newest data key nor what was revoked since,
// under control planes and a node that go on: the node follows, and what is committed then can be read by control
// planes that start later.
func TestBackupFromBeforeAnotherDataKey(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	mustApply(k.control[0], keyedRoute)
	n := k.control[0].node("n", "--control-plane", k.control[1].stream)
	const early, late = "the-key-before-the-backup-0123456789", "the-key-after-the-backup-0123456789"
	put := func(name, key string) {
		t.Helper()
		text, err := json.Marshal(withOneKey(name, key))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.control[0].call("POST", "/api/v1/config/consumers", string(text)); err != nil {
			t.Fatal(err)
		}
	}
	put("early", early)
	if err := k.put(k.control[0], "first"); err != nil {
		t.Fatal(err)
	}
	lets(t, []*node{n}, early, 200)
	backup := k.server.Dump()

	put("late", late)
	if _, _, err := k.control[1].call("DELETE", "/api/v1/config/consumers/early", ""); err != nil {
		t.Fatal(err)
	}
	if said, err := k.rotate(0); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for i, g := range k.control { // both know the new data key
		if err := k.put(g, fmt.Sprint("lost-", i)); err != nil {
			t.Fatal(err)
		}
	}
	lets(t, []*node{n}, late, 200)
	lets(t, []*node{n}, early, 401)

	k.server.Restore(backup)
	lets(t, []*node{n}, early, 200) // as the guide says
	lets(t, []*node{n}, late, 401)
	for i, g := range k.control {
		waittest.UntilNil(t, "a commit after the restore", func() error { return k.put(g, fmt.Sprint("again-", i)) })
	}
	k.restart()
	for _, g := range k.control {
		if err := k.put(g, "first", "again-0", "again-1"); err != nil {
			t.Error(err)
		}
	}
	if got := k.sql("SELECT count(*) FROM consumers"); got != "4" {
		t.Errorf("there are %s consumers, not 4", got)
	}
	if said, err := k.rotate(0); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}
