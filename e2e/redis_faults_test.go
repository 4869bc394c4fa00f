package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// redisServer is a Redis that is told what to do.
type redisServer struct {
	t       *testing.T
	address string
}

func newRedisServer(t *testing.T) redisServer {
	t.Helper()
	u, err := url.Parse(newRedis(t))
	if err != nil {
		t.Fatal(err)
	}
	return redisServer{t, u.Host}
}

// do runs a command, and returns what it says.
func (r redisServer) do(args ...string) string {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.address)
	to := []string{"-h", host, "-p", port, "--no-auth-warning", "-a", "secret"}
	cmd := exec.Command("redis-cli", append(to, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("redis-cli %q: %v %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// quotaOf is what the limits of TestRedisFails let pass.
const quotaOf = 100

// TestRedisFails has two nodes keep quotas in Redis, which fails over to its replica, loses everything, has values of
// other types, runs out of memory and gets slow: strict quotas let pass what they say and no more, leased ones at most
// what the nodes may have ahead more, what on_error says is done meanwhile, nobody waits for longer than the limit
// says, and counts are kept together again afterwards.
func TestRedisFails(t *testing.T) {
	t.Parallel()
	primary, replica := newRedisServer(t), newRedisServer(t)
	host, port, _ := net.SplitHostPort(primary.address)
	replica.do("CONFIG", "SET", "masterauth", "secret")
	replica.do("REPLICAOF", host, port)
	wire := testserver.NewWire(t, primary.address, nil)
	g := newGateway(t)
	var nodes []*node
	for i := range 2 {
		nodes = append(nodes, g.node(fmt.Sprint("n", i), "--redis", "redis://:secret@"+wire.Address))
	}
	const quota = "algorithm: fixed_window, window: month, limit: %d, store: redis, timeout: 10s"
	g.must(fmt.Sprintf(`routes:
  - {name: strict, path: /strict, policy_id: strict, direct_response: {body: x}}
  - {name: leased, path: /leased, policy_id: leased, direct_response: {body: x}}
  - {name: hasty, path: /hasty, policy_id: hasty, direct_response: {body: x}}
policies:
  - {name: strict, rate_limits: [{name: all, on_error: deny, %[1]s}]}
  - {name: leased, rate_limits: [{name: all, mode: leased, on_error: deny, %[1]s}]}
  - {name: hasty, rate_limits: [{name: all, on_error: allow, limit: 1000000, window: 1s, store: redis, timeout: 50ms}]}
`, fmt.Sprintf(quota, quotaOf)), "apply", "-f", "-")
	for _, n := range nodes {
		n.runs(1)
	}
	// ask asks both nodes in turn, and returns how often each status came, and the longest that one took.
	ask := func(path string, times int) (got map[int]int, longest time.Duration) {
		t.Helper()
		got = map[int]int{}
		for i := range times {
			begun := time.Now()
			res, err := http.Get("http://" + nodes[i%len(nodes)].http + path)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			got[res.StatusCode]++
			longest = max(longest, time.Since(begun))
		}
		return got, longest
	}
	// together waits until both nodes ask Redis again.
	together := func() {
		t.Helper()
		for i, n := range nodes {
			waittest.UntilNil(t, n.id+" asks Redis", func() error {
				if res := nodes[i].ask("/strict"); res.status == http.StatusServiceUnavailable {
					return fmt.Errorf("it is %d", res.status)
				}
				return nil
			})
		}
	}
	ahead := len(nodes) * quotaOf / 100
	// exact checks what passed of both quotas, some of which had passed before.
	exact := func(when string, strict, leased int) {
		t.Helper()
		got, _ := ask("/strict", 2*quotaOf)
		if strict += got[200]; strict != quotaOf || got[200]+got[429] != 2*quotaOf {
			t.Errorf("%s, strict: %d passed in all; %v", when, strict, got)
		}
		got, _ = ask("/leased", 2*quotaOf)
		if leased += got[200]; leased > quotaOf+ahead || leased < quotaOf-ahead || got[200]+got[429] != 2*quotaOf {
			t.Errorf("%s, leased: %d passed in all; %v", when, leased, got)
		}
	}
	empty := func() { // also of what the nodes have ahead, and of what they know to be used up
		t.Helper()
		primary.do("FLUSHALL")
		g.must("", "limits", "reset", "all", "--policy", "leased")
	}

	together()
	waittest.UntilNil(t, "the replica", func() error {
		if said := replica.do("INFO", "replication"); !strings.Contains(said, "master_link_status:up") {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
	empty()
	strict, _ := ask("/strict", quotaOf/2)
	leased, _ := ask("/leased", quotaOf/2)
	if strict[200] != quotaOf/2 || leased[200] != quotaOf/2 {
		t.Fatalf("at first: %v, %v", strict, leased)
	}
	primary.do("WAIT", "1", "10000")
	replica.do("REPLICAOF", "NO", "ONE")
	wire.Lead(replica.address)
	wire.Cut()
	if got, _ := ask("/strict", 10); got[200] != 0 {
		t.Errorf("while there is none: %v", got)
	}
	wire.Mend()
	primary = replica
	waittest.UntilNil(t, "Redis again", func() error {
		got, _ := ask("/strict", 2)
		strict[200] += got[200]
		if got[503] > 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	exact("after a failover", strict[200], leased[200])

	empty()
	exact("of an empty Redis", 0, 0)

	keys := strings.Fields(primary.do("KEYS", "gateway:limit:*"))
	empty()
	for _, key := range keys {
		primary.do("LPUSH", key, "poison")
	}
	exact("of poisoned values", 0, 0)

	empty()
	primary.do("CONFIG", "SET", "maxmemory", "1")
	if got, _ := ask("/strict", 20); got[503] != 20 {
		t.Errorf("without memory, denied: %v", got)
	}
	if got, longest := ask("/hasty", 20); got[200] != 20 || longest > 2*time.Second {
		t.Errorf("without memory, allowed: %v, in %v at most", got, longest)
	}
	primary.do("CONFIG", "SET", "maxmemory", "0")
	together()
	empty()
	exact("after there was no memory", 0, 0)

	// Slow: each answer takes 200 ms and more.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				primary.do("CLIENT", "PAUSE", "200")
			}
		}
	}()
	got, longest := ask("/hasty", 200)
	close(stop)
	<-done
	if got[200] != 200 || longest > time.Second {
		t.Errorf("of a slow Redis: %v, in %v at most", got, longest)
	}
	t.Logf("of a slow Redis a request takes %v at most, with a timeout of 50ms", longest)
	together()
	empty()
	exact("after Redis was slow", 0, 0)
}
