package waittest

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is a test that keeps what it ends with.
type recorder struct {
	testing.TB
	said string
}

func (*recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure returns what a test ends with, and how long it took.
func failure(t *testing.T, body func(testing.TB)) (said string, took time.Duration) {
	t.Helper()
	r, begun, done := &recorder{TB: t}, time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		body(r)
	}()
	<-done
	return r.said, time.Since(begun)
}

func TestWaitsSayWhatTheyWaitedFor(t *testing.T) {
	for name, wait := range map[string]func(testing.TB){
		"a condition": func(t testing.TB) { Until(t, "the moon", func() bool { return false }) },
		"an error":    func(t testing.TB) { UntilNil(t, "the moon", func() error { return errors.New("too far") }) },
		"a channel":   func(t testing.TB) { Receive(t, "the moon", make(chan int)) },
		"a function":  func(t testing.TB) { Done(t, "the moon", func() { <-t.Context().Done() }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				said, took := failure(t, wait)
				if !strings.Contains(said, "the moon") || took < Limit || took > Limit+longestPause {
					t.Errorf("after %s: %q", took, said)
				}
				if name == "an error" && !strings.Contains(said, "too far") {
					t.Errorf("without the last error: %q", said)
				}
			})
		})
	}
}

func TestWaitsEndWithWhatTheyWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, ch := time.Now(), make(chan int, 1)
		time.AfterFunc(time.Second, func() { ch <- 7 })
		Until(t, "a second", func() bool { return time.Since(begun) >= time.Second })
		if took := time.Since(begun); took > time.Second+longestPause {
			t.Errorf("a condition that held after a second was seen after %s", took)
		}
		if got := Receive(t, "a number", ch); got != 7 {
			t.Errorf("got %d", got)
		}
		Done(t, "nothing", func() {})
	})
}
