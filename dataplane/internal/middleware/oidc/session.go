package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/shared/jose"
)

// stored is what a session's cookie has. The ID token was verified when it came; that the cookie is the gateway's own
// is what its encryption shows.
type stored struct {
	ID      string `json:"i"` // random, new at each sign-in
	Token   string `json:"t"` // the ID token
	Refresh string `json:"r,omitempty"`
	Next    int64  `json:"n,omitempty"` // when to refresh, in Unix time; 0: never
	End     int64  `json:"e"`           // in Unix time
}

// session is a cookie that was read. It is immutable.
type session struct {
	stored
	client         *identity.Client
	refreshAt, end time.Time
	fact           exchange.Fact
}

const (
	sessionPurpose = "session"
	loginPurpose   = "login"
)

// sessionOf returns the session of a request; nil: it has none that counts.
func (s *step) sessionOf(x *exchange.Exchange, now time.Time) *session {
	if one, before := s.found.Of(x); before {
		return one
	}
	value, found := chunked(&x.Request.Header, cookieName(x, s.cookie))
	if !found {
		return nil
	}
	kept := s.sessions.Value().read
	one, known := kept.Get(value)
	if !known {
		if one = s.open(value); one == nil {
			return nil
		}
		kept.Put(value, one, 4*len(value))
	}
	if !now.Before(one.end) {
		kept.Drop(value)
		return nil
	}
	return one
}

// open reads the value of a session's cookie.
func (s *step) open(value string) *session {
	plain, ok := s.sealer.open(sessionPurpose, value)
	if !ok {
		return nil
	}
	var kept stored
	if json.Unmarshal(plain, &kept) != nil {
		return nil
	}
	return s.session(&kept)
}

// session returns what a cookie has as a session; nil: it is none.
func (s *step) session(kept *stored) *session {
	t, refusal := jose.Parse(kept.Token)
	if refusal != nil {
		return nil
	}
	one := &session{stored: *kept}
	one.fact = s.found.Fact(one)
	one.client = s.mapping.Client(t.Claims, "")
	if one.end = time.Unix(one.End, 0); one.Next > 0 {
		one.refreshAt = time.Unix(one.Next, 0)
	}
	return one
}

// keep makes the cookie of a session.
func (s *step) keep(x *exchange.Exchange, j *jar, one *stored, now time.Time) error {
	plain, err := json.Marshal(one)
	if err != nil {
		return err
	}
	name := cookieName(x, s.cookie)
	if !j.setChunked(name, s.sealer.seal(sessionPurpose, plain), time.Unix(one.End, 0).Sub(now)) {
		return errors.New("the session is too large for cookies")
	}
	return nil
}

// flight is one refreshing of a session, which all its requests wait for.
type flight struct {
	done chan struct{}
	next *stored
	err  error
}

// refresh has a session prolonged by the provider. Requests that come meanwhile wait for the same answer: many
// providers take a refresh token once.
func (s *step) refresh(x *exchange.Exchange, one *session, now time.Time) exchange.Verdict {
	all := s.sessions.Value()
	all.mu.Lock()
	f := all.flights[one.Refresh]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		all.flights[one.Refresh] = f
		go s.prolong(f, one, now)
	}
	all.mu.Unlock()
	ctx, stop := s.context(x)
	defer stop()
	select {
	case <-f.done:
	case <-ctx.Done():
		return s.fail(x, ctx.Err())
	}
	switch {
	case all.hasEnded(one.ID): // the cookie would bring back what the user has ended
		return s.begin(x, now)
	case errors.Is(f.err, errRefused):
		return s.begin(x, now)
	case f.err != nil:
		return s.fail(x, f.err)
	}
	j := &jar{secure: x.Scheme == "https"}
	if err := s.keep(x, j, f.next, now); err != nil {
		return s.fail(x, err)
	}
	next := s.session(f.next)
	if next == nil {
		return s.fail(x, errWrong)
	}
	x.Put(s.cookies.Fact(j))
	return s.accept(x, next)
}

// end remembers that a user has ended a session.
func (all *sessions) end(id string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.ended[id] = struct{}{}
	time.AfterFunc(askTimeout+flightAge, func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		delete(all.ended, id)
	})
}

func (all *sessions) hasEnded(id string) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	_, is := all.ended[id]
	return is
}

// flightAge is how long what a refreshing came to is kept for requests that were sent with the cookie before.
const flightAge = 10 * time.Second

func (s *step) prolong(f *flight, one *session, now time.Time) {
	defer func() {
		close(f.done)
		all := s.sessions.Value()
		forget := func() {
			all.mu.Lock()
			delete(all.flights, one.Refresh)
			all.mu.Unlock()
		}
		if f.err != nil {
			forget()
			return
		}
		time.AfterFunc(flightAge, forget)
	}()
	f.err = errors.New("refreshing panicked")
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	p := s.provider.Value()
	got, err := p.redeem(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {one.Refresh}})
	if err != nil {
		f.err = err
		return
	}
	next := one.stored
	if got.ID != "" { // OpenID Connect Core 1.0 section 12.2
		claims, err := p.verify(ctx, got.ID, now)
		if err != nil {
			f.err = err
			return
		}
		before, _ := jose.Parse(one.Token)
		if before == nil || claims["sub"] != before.Claims["sub"] {
			f.err = errRefused
			return
		}
		next.Token = got.ID
	}
	if got.Refresh != "" {
		next.Refresh = got.Refresh
	}
	next.Next = refreshTime(got, now)
	s.count.refreshed.Add(1)
	f.next, f.err = &next, nil
}

// refreshTime returns when tokens have to be refreshed; 0: never.
func refreshTime(t *tokens, now time.Time) int64 {
	if t.ExpiresIn < 1 || t.ExpiresIn > 1e9 {
		return 0
	}
	return now.Add(time.Duration(t.ExpiresIn) * time.Second).Unix()
}
