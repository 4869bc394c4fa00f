package ratelimit

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/ratelimit/remote"
	"gateway.internal/dataplane/internal/redis"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/waittest"
)

// server is the Redis of these tests.
var server struct {
	port    string
	process *os.Process
}

func TestMain(m *testing.M) {
	end, err := serveRedis()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		end()
		os.Exit(code)
	}))
}

// serveRedis starts a server without persistence, and returns what kills it.
func serveRedis() (end func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, server.port, _ = net.SplitHostPort(ln.Addr().String())
	ln.Close()
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("redis-server", "--port", server.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", dir, "--logfile", dir+"/log")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("redis-server (make tools installs it): %w", err)
	}
	server.process = cmd.Process
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	}, nil
}

// redisAt returns access to a Redis.
func redisAt(t testing.TB, address string) *redis.Client {
	t.Helper()
	c, err := redis.New("redis://" + address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// together returns a node that counts in the Redis of these tests, which answers.
func together(t testing.TB) *Node {
	t.Helper()
	client := redisAt(t, "127.0.0.1:"+server.port)
	waittest.Until(t, "Redis", func() bool { return client.Ping(t.Context()).Err() == nil })
	return nodeOn(t, client)
}

func nodeOn(t testing.TB, client *redis.Client) *Node {
	n := newNode(t)
	store := remote.New(client, slog.New(slog.DiscardHandler))
	n.UseRedis(store)
	t.Cleanup(func() {
		store.Close()
		n.Close()
	})
	return n
}

// set returns a set of limits of a policy of the test's name.
func (n *Node) set(t testing.TB, limits ...string) *Set {
	t.Helper()
	var list []*configv1.RateLimit
	for i, text := range limits {
		m := &configv1.RateLimit{}
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
		if m.GetName() == "" {
			m.Name = fmt.Sprint("l", i)
		}
		list = append(list, m)
	}
	all, err := n.Limits(Owner{Policy: t.Name()}, list)
	if err != nil {
		t.Fatal(err)
	}
	return NewSet(all, nil)
}

// request is one from a client, in a goroutine or in a loop.
func request(client string, inLoop bool) *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Start = time.Now()
	x.Now, x.InLoop = x.Start, inLoop
	x.Client = netip.AddrPortFrom(netip.MustParseAddr(client), 1)
	x.Service, x.Route = "s", "r"
	return x
}

// passes reports whether a request passes, which may wait.
func (s *Set) passes(client string) bool {
	t, v := s.Take(request(client, false))
	t.End()
	return v == exchange.Continue
}

// TestStrictIsExact has three nodes admit just as many requests as a limit says, by each algorithm.
func TestStrictIsExact(t *testing.T) {
	for _, limit := range []string{
		`{"limit": 50, "window": "1h", "store": "redis", "timeout": "10s"}`,
		`{"limit": 50, "window": "744h", "algorithm": "fixed_window", "store": "redis", "timeout": "10s"}`,
		`{"limit": 50, "window": "744h", "algorithm": "sliding_window", "store": "redis", "timeout": "10s"}`,
		`{"limit": 50, "window": "month", "time_zone": "Asia/Kathmandu", "algorithm": "fixed_window", "store": "redis",
			"timeout": "10s"}`,
	} {
		t.Run("", func(t *testing.T) {
			var passed atomic.Int64
			var running sync.WaitGroup
			for range 3 {
				s := together(t).set(t, limit)
				for range 4 {
					running.Go(func() {
						for range 20 {
							if s.passes("192.0.2.1") {
								passed.Add(1)
							}
						}
					})
				}
			}
			running.Wait()
			if n := passed.Load(); n != 50 {
				t.Errorf("%s: %d passed", limit, n)
			}
		})
	}
}

// TestStrictLimitsAreDecidedTogether: a request that one refuses takes nothing of the others, the node's own included,
// and all of Redis are asked in one round trip.
func TestStrictLimitsAreDecidedTogether(t *testing.T) {
	n := together(t)
	s := n.set(t,
		`{"limit": 100, "window": "1h", "store": "redis", "timeout": "10s"}`,
		`{"limit": 3, "window": "1h", "store": "redis", "key": ["client_ip"], "timeout": "10s"}`,
		`{"limit": 100, "window": "1h"}`,
		`{"limit": 1, "window": "1h", "store": "redis", "dry_run": true, "timeout": "10s"}`)
	for i := range 10 {
		if got := s.passes("192.0.2.1"); got != (i < 3) {
			t.Errorf("request %d: %t", i, got)
		}
	}
	tk, v := s.Take(request("192.0.2.2", false))
	defer tk.End()
	if v != exchange.Continue {
		t.Fatal(v)
	}
	for i, want := range []int64{96, 2, 96} {
		if e := tk.entries[i]; e.said.left != want {
			t.Errorf("limit %d: %d left, want %d", i, e.said.left, want)
		}
	}
	if n := s.limits[3].count.wouldRefuse; n == nil {
		t.Error("nothing is counted")
	}
}

// TestNothingWaitsInALoop: Redis is asked where requests may wait.
func TestNothingWaitsInALoop(t *testing.T) {
	n := together(t)
	for _, limit := range []string{
		`{"limit": 100, "window": "1h", "store": "redis", "timeout": "10s"}`,
		`{"limit": 1000, "window": "1h", "store": "redis", "mode": "leased", "timeout": "10s"}`,
	} {
		s := n.set(t, limit)
		if _, v := s.Take(request("192.0.2.1", true)); v != exchange.Later {
			t.Fatalf("%s: %v", limit, v)
		}
		if !s.passes("192.0.2.1") {
			t.Errorf("%s: refused", limit)
		}
		tk, v := s.Take(request("192.0.2.1", true))
		if leased := s.limits[0].Leased; leased != (v == exchange.Continue) {
			t.Errorf("%s: %v after the first one", limit, v)
		}
		tk.End()
	}
}

// TestLeasesStayInTheirBound: three nodes let no more pass than the limit, and what each has ahead.
func TestLeasesStayInTheirBound(t *testing.T) {
	for _, limit := range []string{
		`{"limit": 600, "window": "1h", "store": "redis", "mode": "leased", "timeout": "10s"}`,
		`{"limit": 600, "window": "744h", "algorithm": "fixed_window", "store": "redis", "mode": "leased", "timeout": "10s"}`,
		`{"limit": 600, "window": "744h", "algorithm": "sliding_window", "store": "redis", "mode": "leased",
			"timeout": "10s"}`,
	} {
		t.Run("", func(t *testing.T) {
			var passed atomic.Int64
			var running sync.WaitGroup
			for range 3 {
				s := together(t).set(t, limit)
				for range 4 {
					running.Go(func() {
						for range 300 {
							if s.passes("192.0.2.1") {
								passed.Add(1)
							}
						}
					})
				}
			}
			running.Wait()
			if n := passed.Load(); n > 600 || n < 600-3*6 {
				t.Errorf("%s: %d passed", limit, n)
			}
		})
	}
}

// TestRefusedLeasesAskSeldom: where Redis has nothing left, the node refuses by itself.
func TestRefusedLeasesAskSeldom(t *testing.T) {
	n := together(t)
	s := n.set(t, `{"limit": 100, "window": "1h", "store": "redis", "mode": "leased", "timeout": "10s"}`)
	for range 100 {
		s.passes("192.0.2.1")
	}
	for s.passes("192.0.2.1") {
	}
	for range 100 {
		tk, v := s.Take(request("192.0.2.1", true)) // it would have to leave the loop to ask
		if v != exchange.Stop {
			t.Fatalf("%v", v)
		}
		tk.End()
	}
}

// TestACostThatNeverPassesTakesNothing: a request that costs more than there can be leaves others what there is.
func TestACostThatNeverPassesTakesNothing(t *testing.T) {
	limit := `{"limit": 200, "window": "1h", "store": "redis", "mode": "leased", "timeout": "10s", "cost_header": "X-Cost"}`
	for range 2 {
		dear := request("192.0.2.1", false)
		dear.Request.Header.Add("X-Cost", "1000")
		tk, v := together(t).set(t, limit).Take(dear)
		if v != exchange.Stop {
			t.Errorf("a cost of 1000: %v", v)
		}
		tk.End()
	}
	s, passed := together(t).set(t, limit), 0
	for passed < 300 && s.passes("192.0.2.1") {
		passed++
	}
	if passed != 200 {
		t.Errorf("%d passed of another node", passed)
	}
}

// TestWithoutRedis does what on_error says, at once.
func TestWithoutRedis(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := ln.Addr().String()
	ln.Close()
	for _, c := range []struct {
		name string
		node *Node
	}{{"not configured", newNode(t)}, {"nobody listens", nodeOn(t, redisAt(t, nowhere))}} {
		for _, mode := range []string{"strict", "leased"} {
			for onError, want := range map[string]string{"local": "200 200 429", "allow": "200 200 200", "deny": "503 503 503"} {
				s := c.node.set(t, fmt.Sprintf(
					`{"name": %q, "limit": 2, "window": "1h", "store": "redis", "mode": %q, "on_error": %q}`,
					mode+"-"+onError, mode, onError))
				var got []string
				for range 3 {
					x := request("192.0.2.1", false)
					tk, v := s.Take(x)
					tk.End()
					if v == exchange.Continue {
						x.Response.Status = 200
					}
					got = append(got, fmt.Sprint(x.Response.Status))
				}
				if g := strings.Join(got, " "); g != want {
					t.Errorf("%s, %s, %s: %s", c.name, mode, onError, g)
				}
			}
		}
	}
}

// TestSlowRedis holds nobody for longer than the limit's timeout, and soon nobody at all; it is used again when it
// answers.
func TestSlowRedis(t *testing.T) {
	n := together(t)
	s := n.set(t, `{"limit": 1000, "window": "1h", "store": "redis", "timeout": "20ms", "on_error": "allow"}`)
	s.passes("192.0.2.1")
	if err := server.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := true
	resume := func() {
		if stopped {
			stopped = false
			_ = server.process.Signal(syscall.SIGCONT)
		}
	}
	defer resume()
	waited, down := 0, false
	for range 50 {
		if down = down || n.down(); down {
			break
		}
		if !s.passes("192.0.2.1") {
			t.Error("refused")
		}
		waited++
	}
	if !down || waited > 10 {
		t.Errorf("%d requests have waited, down: %t", waited, down)
	}
	resume()
	waittest.Until(t, "the nodes count together again", func() bool {
		tk, _ := s.Take(request("192.0.2.1", false))
		defer tk.End()
		return tk.entries[0].said.left > 0
	})
}

// TestPoisonedValues in Redis are overwritten, and give nobody more than the limit, nor lock anybody out for longer
// than it takes the limit to come back.
func TestPoisonedValues(t *testing.T) {
	n := together(t)
	for i, limit := range []string{
		`{"limit": 3, "window": "1h", "store": "redis", "timeout": "10s"}`,
		`{"limit": 3, "window": "744h", "algorithm": "fixed_window", "store": "redis", "timeout": "10s"}`,
		`{"limit": 3, "window": "744h", "algorithm": "sliding_window", "store": "redis", "timeout": "10s"}`,
	} {
		for j, value := range []string{
			"x", "-5", "1e99", strings.Repeat("9", 60), strings.Repeat("9", 1<<16), "nan", "1 2 3 4", "0x10",
			"1 99999999999999999999 5", "\x00\xff", " ", "inf",
		} {
			s := n.set(t, strings.Replace(limit, "{", fmt.Sprintf(`{"name": "l%d-%d", `, i, j), 1))
			key := s.limits[0].redisKey(nil)
			if err := n.remoteOf(t).Set(t.Context(), key, value, 0).Err(); err != nil {
				t.Fatal(err)
			}
			passed := 0
			for range 5 {
				if s.passes("192.0.2.1") {
					passed++
				}
			}
			if passed > 3 || passed < 3 && !(i == 0 && j == 3 || i == 0 && j == 4) {
				t.Errorf("%s with %.20q: %d passed", limit, value, passed)
			}
			if ttl := n.remoteOf(t).PTTL(t.Context(), key).Val(); passed > 0 && ttl <= 0 {
				t.Errorf("%s with %.20q: it stays for ever", limit, value)
			}
		}
		s := n.set(t, strings.Replace(limit, "{", fmt.Sprintf(`{"name": "list%d", `, i), 1))
		n.remoteOf(t).LPush(t.Context(), s.limits[0].redisKey(nil), "a")
		if !s.passes("192.0.2.1") {
			t.Errorf("%s: a list locks everybody out", limit)
		}
	}
}

// TestLongWaits are no reason not to ask Redis any more, whatever a request costs.
func TestLongWaits(t *testing.T) {
	n := together(t)
	for _, limit := range []string{
		`{"limit": 1, "window": "744h", "burst": 11, "store": "redis", "timeout": "10s", "cost_header": "X-Cost"}`,
		`{"limit": 1, "window": "744h", "burst": 11, "store": "redis", "mode": "leased", "timeout": "10s",
			"cost_header": "X-Cost"}`,
		`{"limit": 11, "window": "month", "algorithm": "fixed_window", "store": "redis", "timeout": "10s",
			"cost_header": "X-Cost"}`,
		`{"limit": 11, "window": "744h", "algorithm": "sliding_window", "store": "redis", "timeout": "10s",
			"cost_header": "X-Cost"}`,
	} {
		s := n.set(t, strings.Replace(limit, "{", fmt.Sprintf(`{"name": "l%d", `, len(limit)), 1))
		passed := 0
		for i := range 15 {
			x := request("192.0.2.1", false)
			if i == 0 {
				x.Request.Header.Add("X-Cost", "1000000")
			}
			tk, v := s.Take(x)
			if v == exchange.Continue {
				passed++
			}
			if e := &tk.entries[0]; v == exchange.Continue && e.how == fromLocal {
				t.Errorf("%s: request %d was not counted in Redis", limit, i)
			}
			tk.End()
			if n.down() {
				t.Errorf("%s: request %d has Redis taken for broken", limit, i)
			}
		}
		if passed != 11 {
			t.Errorf("%s: %d passed", limit, passed)
		}
	}
}

// TestStrictLimitsGiveBack what was taken of them where another limit has refused the request.
func TestStrictLimitsGiveBack(t *testing.T) {
	n := together(t)
	s := n.set(t,
		`{"limit": 10, "window": "1h", "store": "redis", "timeout": "10s"}`,
		`{"limit": 10, "window": "month", "algorithm": "fixed_window", "store": "redis", "timeout": "10s"}`,
		`{"limit": 10, "window": "744h", "algorithm": "sliding_window", "store": "redis", "timeout": "10s", "cost": 2}`,
		`{"limit": 10, "window": "1h", "store": "redis", "dry_run": true, "timeout": "10s"}`)
	lefts := func() (lefts []int64) {
		for _, l := range s.limits {
			left, _, err := l.askRedis(1, l.redisKey(nil), false, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			lefts = append(lefts, left)
		}
		return lefts
	}
	const kept, both = "[9 9 8 9]", "[8 8 6 8]"
	for i := range 3 {
		x := request("192.0.2.1", false)
		tk, v := s.Take(x)
		if v != exchange.Continue {
			t.Fatal(v)
		}
		if i > 0 {
			if got := fmt.Sprint(lefts()); got != both {
				t.Errorf("%s are left, want %s", got, both)
			}
			tk.Settle(x, fault.RateLimited, 0)
		}
		tk.End()
		waittest.Until(t, kept, func() bool { return fmt.Sprint(lefts()) == kept })
	}
}

// TestNothingIsGivenBackOfAnotherWindow than that in which it was taken.
func TestNothingIsGivenBackOfAnotherWindow(t *testing.T) {
	n := together(t)
	s := n.set(t,
		`{"limit": 10, "window": "744h", "algorithm": "fixed_window", "store": "redis", "timeout": "10s"}`,
		`{"limit": 10, "window": "744h", "algorithm": "sliding_window", "store": "redis", "timeout": "10s"}`)
	if !s.passes("192.0.2.1") {
		t.Fatal("it is refused")
	}
	for _, c := range []struct {
		age  time.Duration
		left int64
	}{{745 * time.Hour, 9}, {0, 10}} {
		for _, l := range s.limits {
			q := l.question(l.redisKey(nil), 1, "give", time.Now())
			q.Taken = time.Now().Add(-c.age)
			if _, err := n.remote.Ask(10*time.Second, []remote.Question{q}); err != nil {
				t.Fatal(err)
			}
			if left, _, err := l.askRedis(1, l.redisKey(nil), false, time.Now()); left != c.left || err != nil {
				t.Errorf("%s after %s: %d left, want %d; %v", l.Algorithm, c.age, left, c.left, err)
			}
		}
	}
}

// remoteOf returns a client of the Redis of these tests.
func (n *Node) remoteOf(t testing.TB) *redis.Client { return redisAt(t, "127.0.0.1:"+server.port) }

// TestOperatorsAsk what is left for a key, and have it forgotten, on the node and in Redis.
func TestOperatorsAsk(t *testing.T) {
	n := together(t)
	s := n.set(t,
		`{"name": "local", "limit": 10, "window": "1h", "key": ["client_ip/24", "header:X-Tenant", "service"]}`,
		`{"name": "strict", "limit": 10, "window": "1h", "store": "redis", "key": ["client_ip"], "timeout": "10s"}`,
		`{"name": "leased", "limit": 1000, "window": "1h", "store": "redis", "mode": "leased", "timeout": "10s"}`,
		`{"name": "now", "algorithm": "concurrency", "limit": 10}`)
	var under *Taken
	for range 4 {
		x := request("192.0.2.7", false)
		x.Request.Header.Add("X-Tenant", "a")
		tk, v := s.Take(x)
		if v != exchange.Continue {
			t.Fatal(v)
		}
		if under != nil {
			tk.End()
		} else {
			under = tk
		}
	}
	defer under.End()
	ask := func(limit string, reset bool, key ...string) (left uint64, err string) {
		t.Helper()
		n.Direct(&streamv1.LimitDirective{Question: 7, Policy: t.Name(), Limit: limit, Key: key, Reset_: reset})
		list := n.Answers()
		if len(list) != 1 || list[0].GetQuestion() != 7 {
			t.Fatal(list)
		}
		return list[0].GetLeft(), list[0].GetError()
	}
	for _, c := range []struct {
		limit string
		key   []string
		left  uint64
		after uint64
	}{
		{"local", []string{"192.0.2.200", "a", "s"}, 6, 10}, {"local", []string{"192.0.2.7", "-", "s"}, 10, 10},
		{"strict", []string{"192.0.2.7"}, 6, 10}, {"leased", nil, 996, 1000}, {"now", nil, 9, 9},
	} {
		if left, err := ask(c.limit, false, c.key...); left != c.left || err != "" {
			t.Errorf("%s %q: %d left, want %d; %s", c.limit, c.key, left, c.left, err)
		}
		if left, err := ask(c.limit, true, c.key...); left != c.after || err != "" {
			t.Errorf("%s %q after a reset: %d left, want %d; %s", c.limit, c.key, left, c.after, err)
		}
	}
	for limit, key := range map[string][]string{"other": nil, "strict": {"nobody"}, "leased": {"too", "much"}} {
		if _, err := ask(limit, false, key...); err == "" {
			t.Errorf("%s %q is answered", limit, key)
		}
	}
}
