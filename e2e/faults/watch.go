package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// look is what a control plane said at a time.
type look struct {
	at     time.Time
	ready  bool
	reason string // why not
}

// readiness asks the control planes' /readyz again and again.
type readiness struct {
	ended chan struct{}
	all   sync.WaitGroup

	mu    sync.Mutex
	looks [][]look // by control plane
}

const readinessPause = 100 * time.Millisecond

func (s *System) watchReadiness() *readiness {
	w := &readiness{ended: make(chan struct{}), looks: make([][]look, len(s.replicas))}
	for i, r := range s.replicas {
		w.all.Go(func() {
			tick := time.NewTicker(readinessPause)
			defer tick.Stop()
			for {
				select {
				case <-w.ended:
					return
				case <-tick.C:
				}
				l := lookAt(r.rest)
				w.mu.Lock()
				w.looks[i] = append(w.looks[i], l)
				w.mu.Unlock()
			}
		})
	}
	return w
}

func lookAt(address string) look {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + address + "/readyz")
	if err != nil {
		return look{at: time.Now(), reason: "no answer"}
	}
	defer res.Body.Close()
	var said struct{ Reason string }
	text, _ := io.ReadAll(res.Body)
	_ = json.Unmarshal(text, &said)
	return look{at: time.Now(), ready: res.StatusCode == http.StatusOK, reason: said.Reason}
}

// awaitReady waits until all say that they are ready.
func (w *readiness) awaitReady(t testing.TB) {
	t.Helper()
	waittest.Until(t, "all control planes to be ready", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, looks := range w.looks {
			if len(looks) == 0 || !looks[len(looks)-1].ready {
				return false
			}
		}
		return true
	})
}

// stop ends the watch and says what was seen of a fault.
func (w *readiness) stop(began, ended time.Time) string {
	close(w.ended)
	w.all.Wait()
	return describe(w.looks, began, ended)
}

// describe says when the last one of those that noticed a fault said no, and when the last one said yes again.
func describe(looks [][]look, began, ended time.Time) string {
	var noAfter, yesAfter time.Duration
	silent, noticed := 0, 0
	for _, of := range looks {
		no := time.Time{}
		yes := time.Time{}
		answered := false
		for _, l := range of {
			switch {
			case l.at.Before(began):
			case !l.ready:
				if no.IsZero() {
					no = l.at
				}
				yes = time.Time{}
				answered = answered || l.reason != "no answer"
			case !no.IsZero() && yes.IsZero():
				yes = l.at
			}
		}
		switch {
		case no.IsZero():
			continue
		case answered:
			noticed++
			noAfter = max(noAfter, no.Sub(began))
		default:
			silent++
		}
		yesAfter = max(yesAfter, yes.Sub(ended))
	}
	var said []string
	if noticed > 0 {
		said = append(said, fmt.Sprintf("no at %d of %d after %s", noticed, len(looks), seconds(noAfter)))
	}
	if silent > 0 {
		said = append(said, fmt.Sprintf("%d of %d silent", silent, len(looks)))
	}
	if len(said) == 0 {
		return "yes all along"
	}
	return strings.Join(said, ", ") + fmt.Sprintf("; yes %s after the end", seconds(max(yesAfter, 0)))
}

// traffic is requests to all nodes, which no fault of control planes, or of what they stand on, may disturb.
type traffic struct {
	ended chan struct{}
	all   sync.WaitGroup

	mu           sync.Mutex
	sent, failed int
	first        string
}

const trafficPause = 20 * time.Millisecond

func (s *System) send() *traffic {
	f := &traffic{ended: make(chan struct{})}
	for _, n := range s.nodes {
		f.all.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(trafficPause)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-f.ended:
					return
				case <-tick.C:
				}
				f.one(client, "http://"+n.http+[]string{"/fixed", "/found"}[i%2])
			}
		})
	}
	return f
}

func (f *traffic) one(client *http.Client, url string) {
	res, err := client.Get(url)
	what := fmt.Sprint(url, ": ", err)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		what = fmt.Sprint(url, ": ", res.Status, " ", err)
		_ = res.Body.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent++
	if err != nil || res.StatusCode != http.StatusOK {
		f.failed++
		if f.first == "" {
			f.first = what
		}
	}
}

func (f *traffic) stop(t testing.TB, fault string) (sent, failed int) {
	close(f.ended)
	f.all.Wait()
	if f.failed > 0 {
		t.Logf("%s: the first request that failed: %s", fault, f.first)
	}
	return f.sent, f.failed
}
