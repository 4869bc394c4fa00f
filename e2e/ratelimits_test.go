package e2e

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// crowd is clients that ask for more than they may.
type crowd struct {
	offered, passed, refused, failed atomic.Int64
	first, last                      atomic.Int64 // when something passed, in nanoseconds since 1970
	offeredAt                        atomic.Int64 // when something was offered last
	// slowest is the longest that a response took, and idle how long nothing was offered, as far as that is longer than a
	// burst takes to come again. Both are what a busy machine does to the clients.
	slowest, idle atomic.Int64
}

// burstTakes is how long a burst takes to come again.
const burstTakes = time.Second * limitBurst / limitRate

// ask has clients ask addresses in turn, as often as rate says altogether, until stop is closed.
func (c *crowd) ask(clients int, rate float64, urls []string, stop <-chan struct{}) {
	var running sync.WaitGroup
	every := time.Duration(float64(time.Second) * float64(clients) / rate)
	for i := range clients {
		running.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: waittest.Limit}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				c.one(client, urls[i%len(urls)])
			}
		})
	}
	running.Wait()
}

func (c *crowd) one(client *http.Client, url string) {
	c.offered.Add(1)
	begun := time.Now()
	if before := c.offeredAt.Swap(begun.UnixNano()); before != 0 {
		c.idle.Add(max(0, begun.UnixNano()-before-int64(burstTakes)))
	}
	res, err := client.Get(url)
	if err != nil {
		c.failed.Add(1)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	took := int64(time.Since(begun))
	for slowest := c.slowest.Load(); took > slowest && !c.slowest.CompareAndSwap(slowest, took); {
		slowest = c.slowest.Load()
	}
	switch res.StatusCode {
	case 200:
		c.passed.Add(1)
		now := time.Now().UnixNano()
		c.first.CompareAndSwap(0, now)
		c.last.Store(now)
	case 429, 503:
		c.refused.Add(1)
	default:
		c.failed.Add(1)
	}
}

// limitsSeconds is for how long the accuracy of limits is measured: GATEWAY_LIMITS_SECONDS, or 2.
func limitsSeconds() float64 {
	if n, err := strconv.ParseFloat(os.Getenv("GATEWAY_LIMITS_SECONDS"), 64); err == nil {
		return n
	}
	return 2
}

const (
	limitRate  = 200 // requests a second
	limitBurst = 20
	offeredX   = 10 // times as many are offered
)

// late is how many requests of the limit clients may see as passed later, or not ask for, since the machine is busy.
func (c *crowd) late() float64 {
	return limitRate * (max(50*time.Millisecond, time.Duration(c.slowest.Load())) + time.Duration(c.idle.Load())).Seconds()
}

// measure has 50 clients offer ten times the limit for a while, and returns how far from the limit what passed was, in
// requests, of how many, and how much of that is the machine's.
func measure(t *testing.T, name string, urls []string) (over, of, late float64) {
	t.Helper()
	var c crowd
	stop := make(chan struct{})
	timer := time.AfterFunc(time.Duration(limitsSeconds()*float64(time.Second)), func() { close(stop) })
	defer timer.Stop()
	c.ask(50, offeredX*limitRate, urls, stop)
	took := time.Duration(c.last.Load() - c.first.Load()).Seconds()
	of = limitBurst + limitRate*took
	over = float64(c.passed.Load()) - of
	t.Logf("%s: %d offered in %.1f s (%.1f times the limit), %d passed, %.0f are due: %+.2f %%; %.0f may be late", name,
		c.offered.Load(), took, float64(c.offered.Load())/of, c.passed.Load(), of, 100*over/of, c.late())
	if n := c.failed.Load(); n > 0 {
		t.Errorf("%s: %d requests failed", name, n)
	}
	return over, of, c.late()
}

// TestRateLimitsOfAFleet offers three nodes ten times what a limit lets pass that they keep in Redis: strict limits are
// exact, leased ones are within what the nodes may have ahead, and a changed limit holds on all nodes within a second.
// nginx does the same with one node, for comparison.
func TestRateLimitsOfAFleet(t *testing.T) {
	redis := newRedis(t)
	g := newGateway(t)
	var nodes []*node
	for _, id := range []string{"one", "two", "three"} {
		nodes = append(nodes, g.node(id, "--redis", redis))
	}
	port := service(t, "ok")
	configuration := func(rate int) string {
		limit := fmt.Sprintf("limit: %d, window: 1s, burst: %d, store: redis, timeout: 10s", rate, limitBurst)
		return fmt.Sprintf(`services: [{name: s, endpoints: [{host: 127.0.0.1, port: %d}]}]
routes:
  - {name: strict, path: /strict, service_id: s, policy_id: strict}
  - {name: leased, path: /leased, service_id: s, policy_id: leased}
  - {name: quota, path: /quota, service_id: s, policy_id: quota}
policies:
  - {name: strict, rate_limits: [{name: all, %s}]}
  - {name: leased, rate_limits: [{name: all, mode: leased, %[2]s}]}
  - name: quota
    rate_limits: [{name: all, algorithm: fixed_window, window: month, limit: 500, store: redis, timeout: 10s}]
`, port, limit)
	}
	g.must(configuration(limitRate), "apply", "-f", "-")
	urls := func(path string) (list []string) {
		for _, n := range nodes {
			list = append(list, "http://"+n.http+path)
		}
		return list
	}
	for _, n := range nodes {
		n.runs(1)
		waittest.Until(t, n.id+" counts in Redis", func() bool {
			_, text := get(t, "http://"+n.status+"/metrics")
			return strings.Contains(text, "\ngateway_redis_up 1\n")
		})
	}
	t.Run("a quota is exact", func(t *testing.T) {
		var c crowd
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for c.offered.Load() < 1500 && c.failed.Load() == 0 {
				c.one(http.DefaultClient, urls("/quota")[0])
			}
		}()
		c.ask(50, 5000, urls("/quota"), stop)
		if n := c.passed.Load(); n != 500 || c.failed.Load() > 0 {
			t.Errorf("%d of %d passed, %d failed", n, c.offered.Load(), c.failed.Load())
		}
	})
	t.Run("what is left is shown, and given back", func(t *testing.T) {
		for _, c := range []struct {
			left string
			args []string
		}{
			{" 0 ", []string{"get", "all", "--policy", "quota"}}, {" 500 ", []string{"reset", "all", "--policy", "quota"}},
			{" 500 ", []string{"get", "all", "--policy", "quota"}},
		} {
			if said := g.must("", append([]string{"limits"}, c.args...)...); strings.Count(said, c.left) < 3 {
				t.Errorf("limits %q:\n%s", c.args, said)
			}
		}
		if status, _ := get(t, urls("/quota")[1]); status != 200 {
			t.Errorf("after that: %d", status)
		}
	})
	t.Run("strict", func(t *testing.T) {
		if over, of, late := measure(t, "strict", urls("/strict")); math.Abs(over) > 0.005*of+late {
			t.Errorf("%.0f requests more than the limit", over)
		}
	})
	t.Run("leased", func(t *testing.T) {
		ahead := 3.0 // a hundredth of limit and burst, at least 1, for each node
		over, of, late := measure(t, "leased", urls("/leased"))
		if over > ahead+late || over < -ahead-late-0.005*of {
			t.Errorf("%.0f requests more than the limit", over)
		}
	})
	t.Run("a changed limit holds within a second", func(t *testing.T) {
		const next = limitRate / 10
		paths := append(urls("/strict"), urls("/leased")...)
		var c crowd
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.ask(50, offeredX*limitRate, paths, stop)
		}()
		g.must(configuration(next), "apply", "-f", "-")
		time.Sleep(time.Second) // what the promise is about
		before, begun := c.passed.Load(), time.Now()
		waittest.Until(t, "more requests", func() bool { return time.Since(begun) > time.Second })
		passed, took := float64(c.passed.Load()-before), time.Since(begun).Seconds()
		close(stop)
		<-done
		if most := 2 * (next*took + 3 + c.late()/2); passed > most {
			t.Errorf("%.0f passed in %.1f s, at most %.0f are due", passed, took, most)
		}
	})
	t.Run("nginx", func(t *testing.T) { measure(t, "nginx limit_req, one node", []string{nginxLimited(t, port)}) })
}

// nginxLimited starts an nginx that lets as much pass to a service, and returns its URL.
func nginxLimited(t *testing.T, service int) string {
	t.Helper()
	dir := t.TempDir()
	port := testserver.FreePort(t)
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`daemon off; worker_processes 1;
pid %[1]s/pid; error_log /dev/null;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3;
  uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  limit_req_zone $server_port zone=all:1m rate=%[4]dr/s;
  server { listen 127.0.0.1:%[2]d; location / { limit_req zone=all burst=%[5]d nodelay; limit_req_status 429;
    proxy_pass http://127.0.0.1:%[3]d; } } }`, dir, port, service, limitRate, limitBurst))
	launch(t, "nginx", nil, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	waittest.UntilNil(t, "nginx", func() error { return status(fmt.Sprint("127.0.0.1:", port), "/", 200) })
	return fmt.Sprintf("http://127.0.0.1:%d/", port)
}
