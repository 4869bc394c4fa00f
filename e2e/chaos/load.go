package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

const (
	// workers send the load, each one request at a time. Of four, three send GET and one POST; every other one of each
	// uses HTTP/2.
	workers     = 16
	postWorkers = workers / 4
	// perSecond is how many requests begin in a second while none of them waits.
	perSecond = 400
	// answerWithin is how long a client waits.
	answerWithin = 20 * time.Second
)

// outcome is what came of one request. Times count from the beginning of the load.
type outcome struct {
	post        bool
	begun, done time.Duration
	endpoint    string // who answered
	failed      string // why it was not answered well; empty: it was
}

// load is clients that send requests at a steady rate.
type load struct {
	start   time.Time
	stopped chan struct{}
	wg      sync.WaitGroup
	clients []*http.Client

	mu       sync.Mutex
	outcomes []outcome              // in the order in which they were done
	begun    [workers]time.Duration // of what each worker is at; 0: nothing
}

// startLoad sends requests to what serves HTTP/1.1 and HTTP/2 at two addresses, which may be the same.
func startLoad(http1, http2 string) *load {
	l := &load{start: time.Now(), stopped: make(chan struct{})}
	for i := range 2 {
		tr := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: workers}
		tr.Protocols.SetHTTP1(i == 0)
		tr.Protocols.SetUnencryptedHTTP2(i == 1)
		l.clients = append(l.clients, &http.Client{Transport: tr, Timeout: answerWithin})
	}
	for i := range workers {
		post, second := i%4 == 3, i/4%2 == 1
		url, client := "http://"+http1, l.clients[0]
		if second {
			url, client = "http://"+http2, l.clients[1]
		}
		l.wg.Go(func() {
			tick := time.NewTicker(workers * time.Second / perSecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-l.stopped:
					return
				case <-tick.C:
				}
				o := outcome{post: post, begun: time.Since(l.start)}
				l.mu.Lock()
				l.begun[i] = o.begun
				l.mu.Unlock()
				o.endpoint, o.failed = request(client, url, post, fmt.Sprint(i, ".", n), !second)
				o.done = time.Since(l.start)
				l.mu.Lock()
				l.begun[i] = 0
				l.outcomes = append(l.outcomes, o)
				l.mu.Unlock()
			}
		})
	}
	return l
}

// request sends one request and returns who answered and what was wrong.
func request(client *http.Client, url string, post bool, token string, once bool) (by, failed string) {
	var written atomic.Int64
	trace := &httptrace.ClientTrace{WroteHeaders: func() { written.Add(1) }}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	method, body := http.MethodGet, io.Reader(nil)
	if post {
		method, body = http.MethodPost, strings.NewReader(token)
	}
	req, err := http.NewRequestWithContext(ctx, method, url+"/"+token, body)
	if err != nil {
		return "", err.Error()
	}
	req.Header.Set(tokenField, token)
	res, err := client.Do(req)
	if err != nil {
		return "", err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	by = res.Header.Get(endpointField)
	switch {
	case err != nil:
		return by, fmt.Sprintf("%d, then %v", res.StatusCode, err)
	case res.StatusCode != http.StatusOK || string(text) != token:
		return by, fmt.Sprintf("%d %.300s", res.StatusCode, text)
	case once && written.Load() > 1:
		// Go's client sends GET again when a connection ends without an answer. That it had to is a failure.
		return by, "the connection has ended without an answer"
	}
	return by, ""
}

// now is the time in the load's count.
func (l *load) now() time.Duration { return time.Since(l.start) }

// since returns what came of requests that have begun since a time and are done.
func (l *load) since(begun time.Duration) (all []outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.outcomes) - 1; i >= 0 && l.outcomes[i].done >= begun; i-- {
		if l.outcomes[i].begun >= begun {
			all = append(all, l.outcomes[i])
		}
	}
	return all
}

// pending returns how many requests are not done that have begun before a time.
func (l *load) pending(before time.Duration) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, begun := range l.begun {
		if begun > 0 && begun < before {
			n++
		}
	}
	return n
}

// await waits until so many requests have begun from now on and are done, and then for all that are under way.
func (l *load) await(t testing.TB, n int) {
	t.Helper()
	begun := l.now()
	waittest.UntilNil(t, fmt.Sprint(n, " requests"), func() error {
		if done := len(l.since(begun)); done < n {
			return fmt.Errorf("there were %d", done)
		}
		return nil
	})
	begun = l.now()
	waittest.UntilNil(t, "the end of what is under way", func() error {
		if n := l.pending(begun); n > 0 {
			return fmt.Errorf("%d requests are not done", n)
		}
		return nil
	})
}

// awaitAnswers waits until each of some endpoints has answered well a request that began from now on, and returns when
// the last of them had.
func (l *load) awaitAnswers(t testing.TB, names ...string) time.Duration {
	t.Helper()
	begun := l.now()
	var last time.Duration
	waittest.UntilNil(t, fmt.Sprint("answers of ", names), func() error {
		first := map[string]time.Duration{}
		for _, o := range l.since(begun) {
			if o.failed == "" {
				first[o.endpoint] = o.done // The order is from the last to the first.
			}
		}
		last = 0
		for _, name := range names {
			at, ok := first[name]
			if !ok {
				return fmt.Errorf("none of %s", name)
			}
			last = max(last, at)
		}
		return nil
	})
	return last
}

// awaitNone waits until an endpoint has had none of the last hundred requests.
func (l *load) awaitNone(t testing.TB, name string) {
	t.Helper()
	waittest.UntilNil(t, "no more requests to "+name, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, o := range l.outcomes[max(0, len(l.outcomes)-100):] {
			if o.endpoint == name {
				return errors.New("it has some")
			}
		}
		return nil
	})
}

// stop lets requests that are under way end, and returns what came of all.
func (l *load) stop() []outcome {
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	l.wg.Wait()
	for _, c := range l.clients {
		c.CloseIdleConnections()
	}
	return l.outcomes
}
