package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// outcome is what a writer was told.
type outcome int

const (
	acknowledged outcome = iota
	refused
	unknown
)

// attempt is one commit that a writer asked for.
type attempt struct {
	message    string // unique
	writer     int
	sent, told time.Time
	outcome    outcome
	revision   uint32 // of acknowledged ones
	text       string // what the writer was told of others
}

// writers commit one change after the other, each by its own control plane, and by the next one where that can't be
// reached.
type writers struct {
	system *System
	run    int
	ended  chan struct{}
	all    sync.WaitGroup

	mu       sync.Mutex
	attempts []attempt
}

const (
	writersInAll = 9
	writerPause  = 50 * time.Millisecond
	// writerLimit is how long a writer waits for an answer.
	writerLimit = time.Minute
)

func (s *System) write() *writers {
	s.runs++
	w := &writers{system: s, run: s.runs, ended: make(chan struct{})}
	for i := range writersInAll {
		w.all.Go(func() { w.one(i) })
	}
	return w
}

func (w *writers) one(i int) {
	client := &http.Client{Timeout: writerLimit, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	at := i
	tick := time.NewTicker(writerPause)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-w.ended:
			return
		case <-tick.C:
		}
		a := attempt{message: fmt.Sprintf("run %d writer %d change %d", w.run, i, n), writer: i, sent: time.Now()}
		const change = `{"routes":[{"name":"w%d","path":"/w%[1]d","direct_response":{"status":200},"labels":{"n":"%d-%d"}}]}`
		body := fmt.Sprintf(change, i, w.run, n)
		replica := w.system.replicas[at%len(w.system.replicas)]
		away := a.ask(client, replica.rest, body)
		a.told = time.Now()
		w.mu.Lock()
		w.attempts = append(w.attempts, a)
		w.mu.Unlock()
		if away {
			at++
		} else if a.outcome == acknowledged {
			at = i
		}
	}
}

// ask sends a change and notes what the writer is told. away reports that nobody was there to be asked.
func (a *attempt) ask(client *http.Client, address, body string) (away bool) {
	a.outcome = unknown
	req, err := http.NewRequest(http.MethodPost, "http://"+address+"/api/v1/config/apply", bytes.NewReader([]byte(body)))
	if err != nil {
		a.text = err.Error()
		return false
	}
	q := req.URL.Query()
	q.Set("message", a.message)
	req.URL.RawQuery = q.Encode()
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	req.GetBody = nil // it is not sent twice
	res, err := client.Do(req)
	if err != nil {
		a.text = err.Error()
		if errors.Is(err, syscall.ECONNREFUSED) {
			a.outcome = refused
		}
		return true
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		a.text = err.Error()
		return true
	}
	var reply struct {
		Success bool
		Error   *struct{ Code, Message string }
		Meta    struct{ Revision uint32 }
	}
	switch err := json.Unmarshal(text, &reply); {
	case err != nil:
		a.text = string(text)
	case reply.Error != nil:
		a.text = reply.Error.Code + ": " + reply.Error.Message
		if reply.Error.Code != "OUTCOME_UNKNOWN" {
			a.outcome = refused
		}
	default:
		a.outcome, a.revision = acknowledged, reply.Meta.Revision
	}
	return false
}

// await waits until each writer has committed something that it asked for after a time, and returns the newest
// revision of these.
func (w *writers) await(t testing.TB, what string, since time.Time) uint32 {
	t.Helper()
	for end := time.Now().Add(Limit); ; pause(10 * time.Millisecond) {
		head, done := w.since(since)
		if done == writersInAll {
			return head
		}
		if time.Now().After(end) {
			w.mu.Lock()
			last := "nothing"
			if n := len(w.attempts); n > 0 {
				last = w.attempts[n-1].text
			}
			w.mu.Unlock()
			t.Fatalf("waited %v for %s: %d have committed; the last one was told %q", Limit, what, done, last)
		}
	}
}

func (w *writers) since(since time.Time) (head uint32, writers int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := map[int]bool{}
	for i := len(w.attempts) - 1; i >= 0 && w.attempts[i].told.After(since); i-- {
		a := w.attempts[i]
		if a.outcome != acknowledged || !a.sent.After(since) {
			continue
		}
		done[a.writer] = true
		head = max(head, a.revision)
	}
	return head, len(done)
}

// stop ends all writers and returns what they were told.
func (w *writers) stop() []attempt {
	close(w.ended)
	w.all.Wait()
	return w.attempts
}

// newest returns the message of the newest revision among those that were acknowledged last.
func newest(attempts []attempt) (message string) {
	revision := uint32(0)
	for i, n := len(attempts)-1, 0; i >= 0 && n < 2*writersInAll; i-- {
		if a := attempts[i]; a.outcome == acknowledged {
			n++
			if a.revision > revision {
				message, revision = a.message, a.revision
			}
		}
	}
	return message
}

// judge compares what writers were told with the history, by message. What was sent before since is not counted where
// an older state was restored: it is lost by that, and what was told between may be.
func judge(row *Row, attempts []attempt, history map[string][]uint32, since time.Time, restores bool) {
	for _, a := range attempts {
		if took := a.told.Sub(a.sent); took > row.Longest {
			row.Longest, row.Told = took, a.text
		}
		in := history[a.message]
		if len(in) > 1 {
			row.Twice++
		}
		if restores && !a.sent.After(since) {
			continue
		}
		switch {
		case a.outcome == acknowledged:
			row.Acknowledged++
			if len(in) == 0 || in[0] != a.revision && len(in) == 1 {
				row.Lost++
			}
		case a.outcome == refused && len(in) > 0:
			row.Against++
		case a.outcome == unknown:
			row.Unknown++
			if len(in) > 0 {
				row.Done++
			}
		}
	}
}
