package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// load sends requests to a node over keep-alive connections at a steady rate, until stop is closed.
type load struct {
	sent, failed atomic.Int64
	first        atomic.Pointer[string]
	wg           sync.WaitGroup
	client       *http.Client
}

func start(url string, workers, perSecond int, stop <-chan struct{}) *load {
	transport := &http.Transport{MaxIdleConnsPerHost: workers, DialContext: (&net.Dialer{}).DialContext}
	return startBy(transport, func() (*http.Request, error) { return http.NewRequest(http.MethodGet, url, nil) }, workers, perSecond, stop)
}

// startBy sends requests of any kind, which have to be answered with "one".
func startBy(transport *http.Transport, request func() (*http.Request, error), workers, perSecond int, stop <-chan struct{}) *load {
	l := &load{client: &http.Client{Timeout: waittest.Limit, Transport: transport}}
	for range workers {
		l.wg.Go(func() {
			tick := time.NewTicker(time.Duration(workers) * time.Second / time.Duration(perSecond))
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				l.once(request)
			}
		})
	}
	return l
}

func (l *load) once(request func() (*http.Request, error)) {
	l.sent.Add(1)
	req, err := request()
	if err != nil {
		l.fail(err.Error())
		return
	}
	res, err := l.client.Do(req)
	if err != nil {
		l.fail(err.Error())
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || string(body) != "one" {
		l.fail(fmt.Sprintf("%d %s %v", res.StatusCode, body, err))
	}
}

func (l *load) fail(why string) {
	l.failed.Add(1)
	l.first.CompareAndSwap(nil, &why)
}

func (l *load) check(t *testing.T, what string, atLeast int64) {
	t.Helper()
	l.wg.Wait()
	l.client.CloseIdleConnections()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%s: %d of %d requests failed, the first with: %s", what, n, l.sent.Load(), *l.first.Load())
	} else {
		t.Logf("%s: %d requests, none failed", what, l.sent.Load())
	}
	if l.sent.Load() < atLeast {
		t.Errorf("%s: only %d requests were sent, %d were meant", what, l.sent.Load(), atLeast)
	}
}

// TestNothingIsLost changes the configuration 500 times under load on two nodes, kills one node and starts it without a
// control plane, and kills the control plane: no request that reaches a live node fails, and all end on the newest
// revision.
func TestNothingIsLost(t *testing.T) {
	g := newGateway(t)
	steady, victim := g.node("steady"), g.node("victim")
	one := service(t, "one")
	_, revision, err := g.call("POST", "/api/v1/config/apply", fmt.Sprintf(`{"services":[{"name":"one","endpoints":[{"host":"127.0.0.1","port":%d}]}],"routes":[{"name":"main","path":"/main","service_id":"one"}]}`, one))
	if err != nil {
		t.Fatal(err)
	}
	steady.runs(revision)
	victim.runs(revision)

	stop := make(chan struct{})
	const perNode = 1000
	steadyLoad := start("http://"+steady.http+"/main", 16, perNode, stop)
	stopVictim := make(chan struct{})
	victimLoad := start("http://"+victim.http+"/main", 16, perNode, stopVictim)

	pace := time.NewTicker(25 * time.Millisecond)
	defer pace.Stop()
	change := func(i int) {
		t.Helper()
		<-pace.C
		body := fmt.Sprintf(`{"routes":[{"name":"r%d","path":"/r%[1]d/*","service_id":"one","priority":%d}]}`, i%50, i)
		if i%10 == 9 { // the service in use changes too
			body = fmt.Sprintf(`{"services":[{"name":"one","endpoints":[{"host":"127.0.0.1","port":%d}],"labels":{"n":"%d"}}]}`, one, i)
		}
		waittest.UntilNil(t, "a change", func() error {
			var err error
			_, revision, err = g.call("POST", "/api/v1/config/apply", body)
			return err
		})
	}
	for i := range 200 {
		change(i)
	}
	close(stopVictim)
	victimLoad.check(t, "the node until it is killed", 2000)
	victim.kill()
	for i := 200; i < 300; i++ {
		change(i)
	}
	g.control.kill()
	// The killed node starts from its last good snapshot, with nobody to ask.
	victim.start()
	waittest.UntilNil(t, "the node without a control plane", func() error { return status(victim.status, "/readyz", 200) })
	stopVictim = make(chan struct{})
	victimLoad = start("http://"+victim.http+"/main", 16, perNode, stopVictim)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	<-ctx.Done() // traffic without a control plane for a while
	cancel()
	g.control.start()
	g.ready()
	for i := 300; i < 500; i++ {
		change(i)
	}
	steady.runs(revision)
	victim.runs(revision)
	close(stop)
	close(stopVictim)
	victimLoad.check(t, "the node after it was killed", 2000)
	steadyLoad.check(t, "the other node", 4000)
	if revision != 501 {
		t.Errorf("the newest revision is %d", revision)
	}
}
