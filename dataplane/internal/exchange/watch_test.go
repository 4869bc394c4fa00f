package exchange

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// leaving is a client's side that tells one watcher of the client's leaving, as codecs do.
type leaving struct {
	Downstream
	by    Aborter
	gone  bool
	calls int
}

func (l *leaving) Watch(a Aborter) {
	l.calls++
	if l.by = a; a != nil && l.gone {
		a.Abort()
	}
}

func (l *leaving) leave() {
	l.gone = true
	if l.by != nil {
		l.by.Abort()
	}
}

type aborted struct{ n int }

func (a *aborted) Abort() { a.n++ }

func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, down := &Exchange{}, &leaving{}
		x.Down, x.Start = down, time.Now()
		x.Deadline = x.Start.Add(time.Second)
		ctx, stop := x.Context()
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || time.Since(x.Start) != time.Second {
			t.Errorf("%v after %s", ctx.Err(), time.Since(x.Start))
		}
		stop()
		if down.by != nil {
			t.Error("the client is watched once the step has ended")
		}

		x.Deadline = time.Time{}
		conn := &aborted{}
		x.Watch(conn)
		one, stopOne := x.Context()
		other, stopOther := x.Context()
		stopOther()
		down.leave()
		if one.Err() == nil || conn.n != 1 {
			t.Errorf("the client has gone: %v, the connection was told %d times", one.Err(), conn.n)
		}
		late, stopLate := x.Context()
		if late.Err() == nil {
			t.Error("a context of a client that has gone goes on")
		}
		stopLate()
		stopOne()
		x.Unwatch(conn)
		if !errors.Is(other.Err(), context.Canceled) || down.by != nil {
			t.Error("somebody watches still")
		}
		down.leave()
		if conn.n != 1 {
			t.Error("one that watches no more was told")
		}
	})
}
