package attempt

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/config"
)

// lentConn is a connection that nobody may touch once it has been given back. The end of the request takes it a time.
type lentConn struct {
	upstream.Conn
	takes    time.Duration
	aborted  chan struct{}
	once     sync.Once
	sent     atomic.Bool
	returned atomic.Bool
	misused  atomic.Bool
}

func (c *lentConn) SendBody(*exchange.Exchange, []byte, bool, time.Duration) error {
	timer := time.NewTimer(c.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.aborted:
		return io.ErrClosedPipe
	}
}

func (c *lentConn) Sent() { c.sent.Store(true) }

func (c *lentConn) Abort() {
	if c.returned.Load() {
		c.misused.Store(true)
		return
	}
	c.once.Do(func() { close(c.aborted) })
}

// sender is a client that has sent its request to the end, or goes on for ever, perhaps when it has sent as many bytes
// as it has said.
type sender struct {
	exchange.Downstream
	endless   bool
	bytes     []byte
	cancelled chan struct{}
}

func (s *sender) NextBody() ([]byte, error) {
	if part := s.bytes; len(part) > 0 {
		s.bytes = nil
		return part, nil
	}
	if s.endless {
		<-s.cancelled
		return nil, io.ErrUnexpectedEOF
	}
	return nil, io.EOF
}

func (s *sender) CancelBody() { close(s.cancelled) }

// Whatever the moment at which an upload ends, nobody touches the connection of a response that is complete once it has
// been given back.
func TestSettle(t *testing.T) {
	for _, c := range []struct {
		name    string
		takes   time.Duration
		endless bool
		bytes   string
		sent    bool
	}{
		{"the last part is sent at once", 0, false, "", true},
		{"the last part is sent soon", lastPart / 2, false, "", true},
		{"the last part is sent too late", 2 * lastPart, false, "", false},
		{"the client goes on sending", 0, true, "", false},
		{"the client has sent all bytes, and does not end its stream", 0, true, "all", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, _ := settled(c.takes, c.endless, c.bytes)
				if sent := conn.sent.Load(); sent != c.sent || conn.misused.Load() {
					t.Errorf("sent: %t, touched after it was given back: %t", sent, conn.misused.Load())
				}
			})
		})
	}
	t.Run("the last part is sent just when it is too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for range 1000 {
				if conn, took := settled(lastPart, false, ""); conn.misused.Load() || took != lastPart {
					t.Fatalf("after %s; touched after it was given back: %t", took, conn.misused.Load())
				}
			}
		})
	})
}

// TestLongBodyIsNotWaitedFor has an attempt fail while a body comes that is longer than what is kept of it: its end,
// which the client takes its time for, is not waited for.
func TestLongBodyIsNotWaitedFor(t *testing.T) {
	for _, version := range []exchange.Version{exchange.HTTP11, exchange.HTTP2} {
		synctest.Test(t, func(t *testing.T) {
			conn := &lentConn{aborted: make(chan struct{})}
			x := &exchange.Exchange{}
			x.Down = &sender{endless: true, bytes: []byte("more than five"), cancelled: make(chan struct{})}
			x.Request.Version, x.Request.Method, x.Request.ContentLength = version, "PUT", -1
			a := &Attempts{Exchange: x, Attempt: Attempt{x: x, Conn: conn}, Retries: &config.Retries{
				Attempts: 2, On: config.RetryReset, KeptBytes: 5,
			}}
			a.begin(nil)
			begun := time.Now()
			again := make(chan bool, 1)
			go func() { again <- a.bodyKept(false) }()
			select {
			case is := <-again:
				if took := time.Since(begun); is || took > 0 {
					t.Errorf("it can be sent again: %v, known after %s", is, took)
				}
			case <-time.After(time.Minute):
				t.Error("the client is waited for")
			}
			_ = a.stopUpload()
		})
	}
}

// settled goes through the end of an exchange whose response came before the request was sent to its end.
func settled(takes time.Duration, endless bool, bytes string) (*lentConn, time.Duration) {
	conn := &lentConn{takes: takes, aborted: make(chan struct{})}
	x := &exchange.Exchange{}
	x.Down = &sender{endless: endless, bytes: []byte(bytes), cancelled: make(chan struct{})}
	x.Request.Version = exchange.HTTP2
	if x.Request.ContentLength = -1; bytes != "" {
		x.Request.ContentLength = int64(len(bytes))
	}
	a := &Attempts{Exchange: x, Attempt: Attempt{x: x, Conn: conn}}
	a.begin(nil)
	synctest.Wait()
	begun := time.Now()
	a.settle()
	conn.returned.Store(true)
	took := time.Since(begun)
	synctest.Wait()
	return conn, took
}
