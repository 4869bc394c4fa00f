package share

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/redis"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/dataplane/internal/upstream/outcome"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// port is where the Redis server of these tests listens.
var port string

func TestMain(m *testing.M) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	ln.Close()
	end, err := serve()
	if err != nil {
		fail(err)
	}
	restart = func() error {
		end()
		end, err = serve()
		return err
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		end()
		os.Exit(code)
	}))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// restart has the server killed, and another one in its place that knows nothing.
var restart func() error

// serve starts a server without persistence, and returns what kills it.
func serve() (end func(), err error) {
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", dir, "--requirepass", "secret", "--logfile", dir+"/log")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("redis-server (make tools installs it): %w", err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	}, nil
}

func client(t *testing.T) *redis.Client { return clientOf(t, ":secret", 0) }

// clientOf returns the access of a user to a database.
func clientOf(t *testing.T, user string, database int) *redis.Client {
	t.Helper()
	c, err := redis.New(fmt.Sprintf("redis://%s@127.0.0.1:%s/%d", user, port, database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// node is one node's sharing, with the circuit of a service that has the test's name.
type node struct {
	*Sharing
	circuit.Circuit
	set *config.Circuit
}

func newNode(t *testing.T, open time.Duration) *node {
	t.Helper()
	return newNodeOf(t, client(t), open, 200*time.Millisecond)
}

// newNodeOf returns a node that reads keys at an interval.
func newNodeOf(t *testing.T, c *redis.Client, open, interval time.Duration) *node {
	t.Helper()
	n := &node{set: &config.Circuit{
		Type: config.WindowCircuit, Probes: 1, Interval: time.Minute, Timeout: open, MaxTimeout: time.Hour,
		Threshold: 0.5, Minimum: 1, Consecutive: 1, Shared: true,
	}}
	n.Circuit = circuit.New(n.set, nil, time.Now())
	n.Sharing = New(c, slog.New(slog.DiscardHandler))
	n.lookInterval = interval
	n.Add("id", t.Name(), n.Circuit)
	t.Cleanup(func() { _ = n.redis.Del(context.Background(), keyPrefix+hashOf(t.Name())) }) // for when it runs again
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		waittest.Receive(t, "the sharing to end", done)
	})
	return n
}

// connected waits until the node listens.
func (n *node) connected(t *testing.T) {
	t.Helper()
	waittest.Until(t, "a connection to Redis", func() bool { return n.redis.IsUp() })
}

func (n *node) is(t *testing.T, want circuit.State) {
	t.Helper()
	waittest.Until(t, "a circuit that is "+want.String(), func() bool { return n.Status(time.Now()).State == want })
}

// fail opens the circuit by its own results.
func (n *node) fail(t *testing.T) {
	t.Helper()
	var p circuit.Permit
	if v := n.Admit(time.Now(), 0, &p); v != circuit.Admitted {
		t.Fatalf("an attempt was not admitted: %d", v)
	}
	p.Ended(&outcome.Result{Kind: outcome.Answered, Status: 500, Ended: time.Now()})
	p.Leave()
}

func TestNodesShareAnOpening(t *testing.T) {
	a, b := newNode(t, time.Hour), newNode(t, time.Hour)
	a.connected(t)
	b.connected(t)
	a.fail(t)
	b.is(t, circuit.Opened)
	key := keyPrefix + hashOf(t.Name())
	if left := a.redis.PTTL(t.Context(), key).Val(); left <= 0 || left > time.Hour {
		t.Errorf("the key lives for %s", left)
	}
	if _, left := b.Own(time.Now()); left != 0 {
		t.Error("what was taken counts as its own")
	}
	late := newNode(t, time.Hour)
	late.is(t, circuit.Opened)
	a.Reset(time.Now())
	b.is(t, circuit.Closed)
	late.is(t, circuit.Closed)
	if n := a.redis.Exists(t.Context(), key).Val(); n != 0 {
		t.Error("the key is still there")
	}
}

// TestOpeningsEnd opens a circuit for a moment: the other node tries the service by itself then.
func TestOpeningsEnd(t *testing.T) {
	a, b := newNode(t, 300*time.Millisecond), newNode(t, time.Hour)
	a.connected(t)
	b.connected(t)
	a.fail(t)
	b.is(t, circuit.Opened)
	var p circuit.Permit
	waittest.Until(t, "an attempt that is let through", func() bool {
		return b.Admit(time.Now(), 0, &p) == circuit.Admitted
	})
	b.is(t, circuit.HalfOpen)
	p.Leave()
	waittest.Until(t, "a key that is gone", func() bool {
		return a.redis.Exists(t.Context(), keyPrefix+hashOf(t.Name())).Val() == 0
	})
}

// TestOpeningsOfTwoNodes has the key of another node's opening, which lasts longer, stay when a node opens its circuit
// and closes it.
func TestOpeningsOfTwoNodes(t *testing.T) {
	n := newNodeOf(t, client(t), time.Minute, time.Hour)
	n.connected(t)
	hash := hashOf(t.Name())
	messages := n.redis.Subscribe(t.Context(), channelPrefix+"0")
	defer messages.Close()
	if _, err := messages.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := func(word string) {
		t.Helper()
		m := waittest.Receive(t, "a message", messages.Channel())
		if !strings.HasPrefix(m.Payload, word+hash) {
			t.Errorf("others are told %q", m.Payload)
		}
	}
	const others = "1 abc 1 3600000"
	if err := n.redis.Set(t.Context(), keyPrefix+hash, others, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	n.fail(t)
	told(openWord)
	if got := n.redis.Get(t.Context(), keyPrefix+hash).Val(); got != others {
		t.Errorf("when it opens, the key has %q", got)
	}
	n.Reset(time.Now())
	told(closeWord)
	if got := n.redis.Get(t.Context(), keyPrefix+hash).Val(); got != others {
		t.Errorf("when it closes, the key has %q", got)
	}
}

func TestRedisComesBack(t *testing.T) {
	a, b := newNode(t, time.Hour), newNode(t, time.Hour)
	a.connected(t)
	b.connected(t)
	a.fail(t)
	b.is(t, circuit.Opened)
	if err := restart(); err != nil {
		t.Fatal(err)
	}
	if a.Status(time.Now()).State != circuit.Opened {
		t.Error("it is not open without Redis")
	}
	late := newNode(t, time.Hour)
	late.is(t, circuit.Opened)
}

func TestPoisonedValuesAreIgnored(t *testing.T) {
	service := t.Name()
	key := keyPrefix + hashOf(service)
	for name, poison := range map[string]func(c *redis.Client) error{
		"no value of ours": func(c *redis.Client) error { return c.Set(t.Context(), key, "open", time.Hour).Err() },
		"a long one": func(c *redis.Client) error {
			return c.Set(t.Context(), key, strings.Repeat("1", 1<<20), time.Hour).Err()
		},
		"a list": func(c *redis.Client) error {
			c.Del(t.Context(), key)
			return c.LPush(t.Context(), key, "x").Err()
		},
		"no time to live": func(c *redis.Client) error { return c.Set(t.Context(), key, "1 abc 1 1000", 0).Err() },
		"a message": func(c *redis.Client) error {
			return c.Publish(t.Context(), channelPrefix+"0", strings.Repeat("open ", 1000)).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, time.Hour)
			n.Add("id", service, n.Circuit)
			n.connected(t)
			if err := poison(n.redis); err != nil {
				t.Fatal(err)
			}
			waittest.Until(t, "a value that is ignored", func() bool { return n.invalid.Load() > 0 })
			if got := n.Status(time.Now()).State; got != circuit.Closed {
				t.Errorf("it is %s", got)
			}
			n.fail(t)
			waittest.Until(t, "a value of its own in its place", func() bool {
				_, _, ok := parseValue(n.redis.Get(context.Background(), key).Val())
				return ok && n.redis.PTTL(context.Background(), key).Val() > 0
			})
			n.redis.Del(context.Background(), key)
		})
	}
}

// TestLeastRights has nodes be a user of Redis that may do what the guide says and no more.
func TestLeastRights(t *testing.T) {
	rights := "on >least ~gateway:* &gateway:* -@all +getrange +pttl +set +del +publish +subscribe +ping +eval +evalsha " +
		"+select"
	args := []any{"acl", "setuser", "limited", "reset"}
	for _, one := range strings.Fields(rights) {
		args = append(args, one)
	}
	all := client(t)
	waittest.UntilNil(t, "Redis", func() error { return all.Do(t.Context(), args...).Err() })
	least := func() *node { return newNodeOf(t, clientOf(t, "limited:least", 1), time.Hour, 200*time.Millisecond) }
	a, b := least(), least()
	a.connected(t)
	b.connected(t)
	a.fail(t)
	b.is(t, circuit.Opened)
	a.Reset(time.Now())
	b.is(t, circuit.Closed)
}
