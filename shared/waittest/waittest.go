// Package waittest is how tests wait for what happens by itself: for an event or a condition, never for a time to pass,
// within a limit that only a fault reaches, and with a message that says what was waited for. Tests whose time is
// virtual (testing/synctest) don't need it.
package waittest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

const (
	// Limit is how long a test waits for one thing. It decides nothing but when a test is given up: several suites may
	// share a slow machine.
	Limit = 2 * time.Minute
	// TestLimit is how long a test that is watched may take, its clean-up included.
	TestLimit = 5 * time.Minute
	// longestPause is the time between two looks at a condition that does not hold for long.
	longestPause = 20 * time.Millisecond
)

// Deadline returns the time at which an operation that begins now, such as one on a connection, is given up.
func Deadline() time.Time { return time.Now().Add(Limit) }

// Until looks at a condition until it holds, and ends the test when it has not within Limit. It is called by the test's
// own goroutine.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	errNot := errors.New("it is not so")
	UntilNil(t, what, func() error {
		if holds() {
			return nil
		}
		return errNot
	})
}

// UntilNil calls try until it returns nil, and ends the test with its last error when it has not within Limit. It is
// called by the test's own goroutine.
func UntilNil(t testing.TB, what string, try func() error) {
	t.Helper()
	end, pause := Deadline(), 100*time.Microsecond
	for err := try(); err != nil; err = try() {
		if time.Now().After(end) {
			t.Fatalf("waited %s for this: %s; at last: %v", Limit, what, err)
		}
		time.Sleep(pause)
		pause = min(2*pause, longestPause)
	}
}

// Receive returns what comes out of a channel, or its zero value once it is closed, and ends the test when nothing has
// come within Limit. It is called by the test's own goroutine.
func Receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	timer := time.NewTimer(Limit)
	defer timer.Stop()
	select {
	case v := <-from:
		return v
	case <-timer.C:
		t.Fatalf("waited %s for this: %s", Limit, what)
		panic("not reached")
	}
}

// Done calls wait, such as the Wait of a sync.WaitGroup, and ends the test when it has not returned within Limit. It is
// called by the test's own goroutine.
func Done(t testing.TB, what string, wait func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	Receive(t, what, done)
}

// Watch gives a test a time limit of its own, TestLimit, that holds for its clean-up too: when it is reached, the
// process ends and prints the test's name and where each goroutine waits. Set-ups that many tests share call it first.
func Watch(t testing.TB) {
	timer := time.AfterFunc(TestLimit, func() {
		stacks := make([]byte, 4<<20)
		fmt.Fprintf(os.Stderr, "%s is not over after %s. Its goroutines wait here:\n\n%s\n", t.Name(), TestLimit, stacks[:runtime.Stack(stacks, true)])
		os.Exit(2)
	})
	t.Cleanup(func() { timer.Stop() })
}
