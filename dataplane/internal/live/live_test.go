package live

import (
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cache is something that is kept. What it waits for before it is closed, and does then, is said by the test.
type cache struct {
	closed *atomic.Int64
	close  func() error
}

func (c *cache) Close() error {
	c.closed.Add(1)
	if c.close != nil {
		return c.close()
	}
	return nil
}

// other is something else that is kept.
type other struct{ cache }

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

func newStore() (*Store, *logged) {
	l := &logged{}
	log := slog.New(slog.NewTextHandler(l, nil))
	return NewStore(log, telemetry.New(1).Panics(log)), l
}

func keep(t *testing.T, s *Store, by string, closed *atomic.Int64) *Ref[*cache] {
	t.Helper()
	r, err := Keep(s, by, func() (*cache, error) { return &cache{closed: closed}, nil })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// settled has garbage collected until a condition holds.
func settled(t *testing.T, what string, holds func() bool) {
	t.Helper()
	waittest.Until(t, what, func() bool {
		runtime.GC()
		return holds()
	})
}

// TestKeep shares things by key, and closes each once, after its last user has gone.
func TestKeep(t *testing.T) {
	s, _ := newStore()
	var closed, closedOther atomic.Int64
	a := keep(t, s, "a", &closed)
	again := keep(t, s, "a", &closed)
	b := keep(t, s, "b", &closed)
	if a.Value() != again.Value() || a.Value() == b.Value() {
		t.Error("one key has two things, or two have one")
	}
	o, err := Keep(s, "a", func() (*other, error) { return &other{cache{closed: &closedOther}}, nil })
	if err != nil || s.Len() != 3 {
		t.Errorf("%v, %d things", err, s.Len())
	}
	runtime.KeepAlive(b)
	settled(t, "what nobody uses is gone", func() bool { return s.Len() == 2 && closed.Load() == 1 })
	runtime.KeepAlive(again)
	again = nil
	for range 3 {
		runtime.GC() // as many as it takes the other cleanups
	}
	if closed.Load() != 1 || closedOther.Load() != 0 {
		t.Error("a thing was closed that is used")
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(o)
	settled(t, "all is gone", func() bool { return s.Len() == 0 && closed.Load() == 2 && closedOther.Load() == 1 })
	keep(t, s, "a", &closed)
	s.Close()
	if closed.Load() != 3 || closedOther.Load() != 1 {
		t.Errorf("closed %d and %d times", closed.Load(), closedOther.Load())
	}
	runtime.GC()
	s.Close()
	if closed.Load() != 3 {
		t.Error("closed twice")
	}
	if _, err := Keep(s, "a", func() (*cache, error) { return &cache{closed: &closed}, nil }); err == nil {
		t.Error("something is kept by what is closed")
	}
}

// TestKeepAtOnce makes a thing once for all who ask for it at once.
func TestKeepAtOnce(t *testing.T) {
	s, _ := newStore()
	defer s.Close()
	var made, closed atomic.Int64
	refs := make([]*Ref[*cache], 20)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range refs {
		wg.Go(func() {
			<-begin
			refs[i], _ = Keep(s, 1, func() (*cache, error) {
				made.Add(1)
				return &cache{closed: &closed}, nil
			})
		})
	}
	close(begin)
	wg.Wait()
	for _, r := range refs {
		if r == nil || r.Value() != refs[0].Value() {
			t.Fatal("there are several things")
		}
	}
	if made.Load() != 1 || closed.Load() != 0 {
		t.Errorf("made %d times, closed %d times", made.Load(), closed.Load())
	}
}

// TestKeepFails keeps nothing where nothing could be made, and goes on where Close panics or fails.
func TestKeepFails(t *testing.T) {
	s, log := newStore()
	defer s.Close()
	broken := errors.New("broken")
	if _, err := Keep(s, "a", func() (*cache, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	_, err := Keep(s, "a", func() (*cache, error) { panic("a defect") })
	if err == nil || !strings.Contains(err.Error(), "a defect") {
		t.Errorf("the error is %v", err)
	}
	if s.Len() != 0 || !log.has("a defect") {
		t.Errorf("%d things are kept", s.Len())
	}
	var closed atomic.Int64
	for by, c := range map[string]*cache{
		"panics": {closed: &closed, close: func() error { panic("another defect") }},
		"fails":  {closed: &closed, close: func() error { return broken }},
		"closes": {closed: &closed},
	} {
		if _, err := Keep(s, by, func() (*cache, error) { return c, nil }); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, "all are closed", func() bool { return s.Len() == 0 && closed.Load() == 3 })
	waittest.Until(t, "what Close said is logged", func() bool {
		return log.has("another defect") && log.has("could not be closed") && log.has("*live.cache")
	})
}

// TestKeepWithoutAStore makes something for each.
func TestKeepWithoutAStore(t *testing.T) {
	var closed atomic.Int64
	one, other := keep(t, nil, "a", &closed), keep(t, nil, "a", &closed)
	if one.Value() == other.Value() {
		t.Error("what no store keeps is shared")
	}
}
