package sql

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/backoff"
)

// How often the engine is looked after: while it is there, while it is away, and at most, when callers ask for another
// look.
const (
	lookInterval     = 2 * time.Second
	lookIntervalAway = 500 * time.Millisecond
	lookIntervalMost = 100 * time.Millisecond
)

// presence is what is known of the engine's being there. An engine that is frozen, or behind a network that swallows
// packets, would otherwise hold every caller for as long as a transaction may take, one after the other.
type presence struct {
	mu sync.Mutex
	// limited is why the engine can't be used, or only for reading; nil while it can.
	limited error
	// there ends when the engine is found to be away, and with it everything that waits for the engine.
	there context.Context
	leave context.CancelCauseFunc
	// looked is closed after the next look.
	looked chan struct{}
	// ask wakes the loop that looks.
	ask chan struct{}
	// full is set when a write found no room, until a look finds some.
	full atomic.Bool
}

// noRoom notes that a write found no room. That is no news to whoever reads, so an engine that is only asked whether
// it is there does not tell.
func (p *presence) noRoom() {
	p.full.Store(true)
	poke(p.ask)
}

func newPresence() *presence {
	p := &presence{looked: make(chan struct{}), ask: make(chan struct{}, 1)}
	p.there, p.leave = context.WithCancelCause(context.Background())
	return p
}

// errReadOnly is an engine that can be read and takes no writes.
var errReadOnly = errors.New("the server takes no writes: it is a standby, in recovery, or set to read-only")

// errNoRoom is an engine that can be read and has no room for more.
var errNoRoom = errors.New("the server has no room for what is written")

// isAway reports whether what limits an engine keeps it from being read too.
func isAway(limited error) bool {
	return limited != nil && !errors.Is(limited, errReadOnly) && !errors.Is(limited, errNoRoom)
}

// found takes over what a look came to, and reports whether that is news.
func (p *presence) found(limited error) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, now := isAway(p.limited), isAway(limited)
	news = before != now || (p.limited == nil) != (limited == nil)
	p.limited = limited
	switch {
	case now:
		p.leave(fmt.Errorf("%w: %w", errNoAnswer, limited)) // such as a certificate that is not to be trusted
	case before:
		p.there, p.leave = context.WithCancelCause(context.Background())
	}
	close(p.looked)
	p.looked = make(chan struct{})
	return news
}

func (p *presence) state() (there context.Context, looked <-chan struct{}, limited error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.there, p.looked, p.limited
}

// enter returns when the engine is there, as far as is known, with the context that ends when it is found to be away.
// While it is away, enter waits for one more look at it.
func (p *presence) enter(ctx context.Context) (context.Context, error) {
	there, looked, limited := p.state()
	if !isAway(limited) {
		return there, nil
	}
	poke(p.ask)
	select {
	case <-looked:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	there, _, limited = p.state()
	if isAway(limited) {
		return nil, limited
	}
	return there, nil
}

// lookAfter looks after the engine until the store is closed.
func (s *Store) lookAfter(ctx context.Context) {
	last := time.Time{}
	for {
		last = time.Now()
		err := s.look(ctx)
		if ctx.Err() != nil {
			s.presence.found(errors.New("the store is closed"))
			return
		}
		switch news := s.presence.found(err); {
		case !news:
		case err == nil:
			s.log.Info("the store is there again")
			s.hint() // what was missed is read at once
		default:
			s.log.Error("the store is away or takes no writes; what is known stays, and nothing can be changed", "error", err.Error())
			s.dropIdle() // these connections may lead to where nothing is any more
		}
		interval := lookInterval
		if err != nil {
			interval = lookIntervalAway
		}
		if !backoff.Sleep(ctx, interval, s.presence.ask) || !backoff.Sleep(ctx, time.Until(last.Add(lookIntervalMost)), nil) {
			s.presence.found(errors.New("the store is closed"))
			return
		}
	}
}

// look returns why the engine can't be used. One look that gets no answer is no proof: the machine may have been busy.
func (s *Store) look(ctx context.Context) error {
	for tries := 2; ; tries-- {
		looking, cancel := context.WithTimeoutCause(ctx, s.limits.look, errNoAnswer)
		err := s.dialect.look(looking, s.db)
		if err == nil && s.presence.full.Load() {
			if err = s.dialect.room(looking, s.db); err != nil {
				err = fmt.Errorf("%w: %w", errNoRoom, err)
			} else {
				s.presence.full.Store(false)
			}
		}
		late := looking.Err() != nil
		cancel()
		switch {
		case err == nil:
			return nil
		case !late:
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		case tries == 1 || ctx.Err() != nil:
			return fmt.Errorf("%w: no answer within %v", store.ErrUnavailable, s.limits.look)
		}
	}
}

// dropIdle closes the connections that rest.
func (s *Store) dropIdle() {
	s.db.SetMaxIdleConns(0)
	s.db.SetMaxIdleConns(maxIdleConns)
}

// within returns a context that ends once the engine has not answered for d, or is found to be away, for reason of the
// engine. What is large takes many answers: see answered. It is an error where the engine is away now.
func (s *Store) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc, error) {
	there, err := s.presence.enter(ctx)
	if err != nil {
		return ctx, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	silence := &silence{limit: d, timer: time.AfterFunc(d, func() { cancel(errNoAnswer) })}
	unhook := context.AfterFunc(there, func() { cancel(context.Cause(there)) })
	return context.WithValue(ctx, silenceKey{}, silence), func() { unhook(); silence.timer.Stop(); cancel(nil) }, nil
}

// silence is how long the engine has not answered for.
type silence struct {
	limit time.Duration
	timer *time.Timer
}

type silenceKey struct{}

// answered makes the limit of a context of within count from now: the engine has done a part of what it was asked for.
func answered(ctx context.Context) {
	if s, ok := ctx.Value(silenceKey{}).(*silence); ok && ctx.Err() == nil {
		s.timer.Reset(s.limit)
	}
}

// waitLong has a context of within wait for one statement for as long as the engine is there, until the returned
// function is called: to rewrite a large table takes longer than any limit, and to be ended would have it begin anew.
func waitLong(ctx context.Context, interval time.Duration) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				answered(ctx)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// Err implements store.Store.
func (s *Store) Err() error {
	_, _, limited := s.presence.state()
	return limited
}
