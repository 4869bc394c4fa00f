package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// TestDownAtStart: nothing listens, or something that says nothing. Both are waited for.
func TestDownAtStart(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, host := range []string{"127.0.0.1:1", silent.Addr().String()} {
		s := opener("postgres://gateway:hunter2@" + host + "/x?sslmode=disable&connect_timeout=1")(t)
		ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
		_, _, err := s.Load(ctx)
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", host, err)
		}
		cancel()
		_ = s.Close()
	}
}

// TestBrokenOff: a commit whose answer is lost was either done, or not done, or is said to be unknown; what is said is
// so.
func TestBrokenOff(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	for name, test := range map[string]struct {
		fail failure
		want error // nil: committed
	}{
		"before the server got it":                {cutBefore, store.ErrUnavailable},
		"after the server got it":                 {cutAfter, nil},
		"the server gets it later":                {cutLater, nil},
		"after the server got it, and it is away": {cutAndDie, store.ErrUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, server.URL)
			s := opener(w.URL)(t).(*Store)
			defer s.Close()
			s.limits.outcome = 2 * time.Second
			head, _, err := s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			w.fail(test.fail)
			r, err := commitRoute(t, s, head, fmt.Sprint("r", test.fail))
			if !errors.Is(err, test.want) || test.want == nil && r.Number != head.Number+1 {
				t.Errorf("revision %d, %v; want %v", r.Number, err, test.want)
			}
			direct := opener(server.URL)(t)
			defer direct.Close()
			now, _, err := direct.Load(t.Context())
			if committed := now.Number == head.Number+1; err != nil || committed != (test.fail != cutBefore) {
				t.Errorf("head %d after %d, %v", now.Number, head.Number, err)
			}
		})
	}
}

// TestAnswersOutOfStep: a session in which the server has answered more than it was asked is not used again.
func TestAnswersOutOfStep(t *testing.T) {
	w := newWire(t, testserver.NewPostgreSQL(t).URL)
	s := opener(w.URL)(t).(*Store)
	defer s.Close()
	head, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w.fail(sentTwice)
		r, err := commitRoute(t, s, head, fmt.Sprint("r", i))
		if err != nil {
			t.Fatal(err)
		}
		now, c, err := s.Load(t.Context())
		if err != nil || now.Number != r.Number || c.Len(config.Route) != i+1 {
			t.Fatalf("head %d after %d, %v", now.Number, r.Number, err)
		}
		head = now
	}
}

// TestFrozen: a server that is there and does not answer is unavailable, after a while, and not for longer than it is.
func TestFrozen(t *testing.T) {
	w := newWire(t, testserver.NewPostgreSQL(t).URL)
	s := opener(w.URL)(t).(*Store)
	defer s.Close()
	head, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.limits.read, s.limits.work = 200*time.Millisecond, 200*time.Millisecond
	w.Freeze()
	if _, err := s.Since(t.Context(), head, 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("since: %v", err)
	}
	if _, err := commitRoute(t, s, head, "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := s.Load(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline of the caller's: %v", err)
	}
	w.Thaw()
	s.limits.read, s.limits.work = 10*time.Second, 10*time.Second
	if r, err := commitRoute(t, s, head, "a"); err != nil || r.Number != head.Number+1 {
		t.Errorf("when it answers again: %d, %v", r.Number, err)
	}
}

// TestStuckReplica: one that stops for good while it holds the head's lock does not keep the others out.
func TestStuckReplica(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	other := opener(server.URL)(t).(*Store)
	defer other.Close()
	head, _, err := other.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stuck, err := Open(t.Context(), server.URL+"&idle_in_transaction_session_timeout=200", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	plan := newRoute(t, config.Empty(), "a")
	_, err = stuck.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
		if r, err := commitRoute(t, other, head, "b"); err != nil || r.Number != 1 {
			t.Errorf("the other one: %d, %v", r.Number, err)
		}
		return &store.Draft{Changes: plan.Changes}, nil
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the stuck one: %v", err)
	}
	if now, c, err := other.Load(t.Context()); err != nil || now.Number != 1 || c.ByName(config.Route, "a") != nil {
		t.Errorf("head %d, %v", now.Number, err)
	}
}

// TestLongPlan: one that works for long while it holds the head's lock is not one that has stopped.
func TestLongPlan(t *testing.T) {
	server := testserver.NewPostgreSQL(t)
	s, err := Open(t.Context(), server.URL+"&idle_in_transaction_session_timeout=400", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.limits.keepAlive = 50 * time.Millisecond
	head, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	clock := openSessionsOf(t, server.URL)
	plan := newRoute(t, config.Empty(), "a")
	r, err := s.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
		// By the server's clock three times as long as it lets idle ones be.
		_, err := clock.ExecContext(t.Context(), "SELECT pg_sleep(1.2)")
		return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes}, err
	})
	if err != nil || r.Number != 1 {
		t.Errorf("revision %d, %v", r.Number, err)
	}
}

// commitUntil commits until it works, as a caller does who was told that the store is unavailable, and returns what was
// told before.
func commitUntil(t *testing.T, s *Store, name string) (refused int) {
	t.Helper()
	waittest.UntilNil(t, "a commit", func() error {
		head, _, err := s.Load(t.Context())
		if err == nil {
			_, err = commitRoute(t, s, head, name)
		}
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		if err != nil {
			refused++
		}
		return err
	})
	return refused
}

// TestFailover: the server's standby takes over, while the server is still there and takes no more writes. Sessions
// that rest in the pool lead to it.
func TestFailover(t *testing.T) {
	old := testserver.NewPostgreSQL(t)
	next := old.NewStandby(t)
	w := newWire(t, old.URL)
	stores := map[string]*Store{
		"one address that leads to another server": opener(w.URL)(t).(*Store),
		"two hosts": opener(fmt.Sprintf("postgres://gateway@%s,%s/postgres?sslmode=disable", old.Address(), next.Address()))(t).(*Store),
	}
	for name, s := range stores {
		defer s.Close()
		commitUntil(t, s, "before-"+name[:3])
	}
	db := openSessionsOf(t, old.URL)
	for _, sql := range []string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"} {
		if _, err := db.ExecContext(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	replica := openSessionsOf(t, next.URL)
	waittest.UntilNil(t, "the replica", func() error {
		var n int
		if err := replica.QueryRowContext(t.Context(), "SELECT count(*) FROM revisions").Scan(&n); err != nil || n < len(stores) {
			return fmt.Errorf("it has %d revisions, %w", n, err)
		}
		return nil
	})
	next.Promote()
	w.Lead(next.Address())
	for name, s := range stores {
		if refused := commitUntil(t, s, "after-"+name[:3]); refused > 1 {
			t.Errorf("%s: %d commits were refused", name, refused)
		}
	}
}

func openSessionsOf(t *testing.T, url string) *dbsql.DB {
	t.Helper()
	db, d, err := openPostgreSQL(url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(); _ = d.close() })
	return db
}

// TestNobodyWaitsForTheDead: connections whose other end is gone without a word. Whoever has begun to wait, and whoever
// comes, is told within seconds that the store is away, one after the other or all at once.
func TestNobodyWaitsForTheDead(t *testing.T) {
	w := newWire(t, testserver.NewPostgreSQL(t).URL)
	var log lines
	s, err := Open(t.Context(), w.URL, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Freeze()
	begun := time.Now()
	var writers sync.WaitGroup
	for i := range 9 {
		writers.Go(func() {
			if _, err := commitRoute(t, s, head, fmt.Sprint("w", i)); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	writers.Wait()
	if took := time.Since(begun); took > s.limits.read {
		t.Errorf("nine writers were told after %v", took)
	}
	waittest.UntilNil(t, "word of the outage", func() error {
		if s.Err() == nil {
			return errors.New("the store takes itself for there")
		}
		return nil
	})
	w.Thaw()
	if r, err := commitRoute(t, s, head, "again"); err != nil || r.Number != head.Number+1 {
		t.Errorf("when it answers again: %d, %v", r.Number, err)
	}
	if away, back := log.count("the store is away"), log.count("the store is there again"); away < 1 || away-back > 1 {
		t.Errorf("logged %d times that it is away and %d times that it is back:\n%s", away, back, log.text())
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) count(s string) int { return strings.Count(l.text(), s) }
