// Package oidc is the middleware type "oidc": it signs users of browsers in by an OpenID provider, and knows them by an
// encrypted cookie.
package oidc

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/tokencache"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

const (
	defaultLifetime = 12 * time.Hour
	// loginLifetime is how long a user has for signing in.
	loginLifetime = 10 * time.Minute
	// askTimeout is the longest time for the provider's part of one request.
	askTimeout = 10 * time.Second
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.Oidc)
	if !ok {
		return nil, fmt.Errorf("oidc: settings are a %T", settings)
	}
	s := &step{
		scope: strings.Join(append([]string{"openid"}, without(m.GetScopes(), "openid")...), " "), clientID: m.GetClientId(),
		callback: or(m.GetRedirectPath(), "/oauth2/callback"), logout: or(m.GetLogoutPath(), "/oauth2/logout"),
		after: or(m.GetAfterLogoutPath(), "/"), cookie: or(m.GetCookieName(), "session"), lifetime: defaultLifetime,
		lets:    m.GetOptional(),
		mapping: identity.NewMapping(m.GetClaimsToHeaders(), m.GetGroupsClaim(), m.GetScopeClaim(), m.GetConsumerClaim()),
		now:     env.Now, consumers: env.Consumers, log: env.Log, count: newCounters(env.Metrics),
		cookies: exchange.FactKey[*jar]("cookies of " + env.Name),
		found:   exchange.FactKey[*session]("session of " + env.Name),
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if text := m.GetSessionLifetime(); text != "" {
		if s.lifetime, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("oidc: session_lifetime: %w", err)
		}
	}
	if s.sealer, err = newSealer(env.Name, m.GetSessionSecret(), m.GetPreviousSessionSecret()); err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	if s.guard, err = identity.New(m, env, "", "", s.mapping.Fields()...); err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	by := providerBy{env.Name, m.GetIssuer(), m.GetClientId(), sha256.Sum256([]byte(m.GetClientSecret()))}
	s.provider, err = live.Keep(env.Live, by, func() (*provider, error) {
		return newProvider(m.GetIssuer(), m.GetClientId(), m.GetClientSecret(), env), nil
	})
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	s.sessions, err = live.Keep(env.Live, sessionsBy{env.Name, sha256.Sum256(text)}, func() (*sessions, error) {
		return &sessions{read: tokencache.New[*session](0), flights: map[string]*flight{}, ended: map[string]struct{}{}}, nil
	})
	return s, err
}

func or(text, absent string) string {
	if text == "" {
		return absent
	}
	return text
}

func without(list []string, one string) (rest []string) {
	for _, s := range list {
		if s != one {
			rest = append(rest, s)
		}
	}
	return rest
}

type providerBy struct {
	middleware, issuer, clientID string
	secret                       [sha256.Size]byte
}

type sessionsBy struct {
	middleware string
	settings   [sha256.Size]byte
}

// sessions are those that were read lately, and those that are being refreshed.
type sessions struct {
	read *tokencache.Cache[*session]

	mu      sync.Mutex
	flights map[string]*flight // by the refresh token
	// ended are the ids of sessions that users have ended, for as long as a refreshing may be under way.
	ended map[string]struct{}
}

// Close implements io.Closer.
func (all *sessions) Close() error { return all.read.Close() }

type step struct {
	guard     *identity.Guard
	mapping   *identity.Mapping
	provider  *live.Ref[*provider]
	sessions  *live.Ref[*sessions]
	sealer    *sealer
	clientID  string
	scope     string
	cookie    string
	callback  string
	logout    string
	after     string
	lifetime  time.Duration
	lets      bool // requests without a session go on
	now       func() time.Time
	consumers func() *consumer.Set
	count     counters
	log       *slog.Logger
	// cookies are what the response sets, where the request goes on.
	cookies exchange.FactKey[*jar]
	// found is the session of a request that goes on: the same step may stand in another pipeline of it, and its cookie
	// is gone.
	found exchange.FactKey[*session]
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	v := s.request(x)
	if v == exchange.Continue { // a service that had the cookies could be the user at all others
		identity.RemoveCookies(x, func(name string) bool { return s.isOwn(name, x.Scheme == "https") })
	}
	return v
}

func (s *step) request(x *exchange.Exchange) exchange.Verdict {
	switch x.Request.Path {
	case s.callback:
		if x.InLoop {
			return exchange.Later
		}
		return s.finish(x)
	case s.logout:
		if x.InLoop {
			return exchange.Later
		}
		return s.end(x)
	}
	if s.guard.Excluded(x) {
		return exchange.Continue
	}
	now := s.now()
	one := s.sessionOf(x, now)
	switch {
	case one == nil:
		return s.begin(x, now)
	case !one.refreshAt.IsZero() && !now.Before(one.refreshAt):
		if x.InLoop {
			return exchange.Later
		}
		return s.refresh(x, one, now)
	}
	s.count.known.Add(1)
	return s.accept(x, one)
}

// accept lets a request go on as its session's user.
func (s *step) accept(x *exchange.Exchange, one *session) exchange.Verdict {
	x.Put(one.fact)
	return one.client.Accept(s.guard, x, s.consumers)
}

// Response implements pipeline.Step.
func (s *step) Response(x *exchange.Exchange) {
	if j, found := s.cookies.Of(x); found {
		for _, f := range j.fields {
			x.Response.Header.Add("Set-Cookie", f)
		}
	}
}

// context returns one for asking the provider on behalf of an exchange.
func (s *step) context(x *exchange.Exchange) (context.Context, func()) {
	ctx, stop := x.Context()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	return ctx, func() { cancel(); stop() }
}

// fail answers a request that the provider is needed for and can't be had.
func (s *step) fail(x *exchange.Exchange, err error) exchange.Verdict {
	s.count.failed.Add(1)
	if s.log != nil {
		s.log.Debug("the OpenID provider can't be asked", "error", err.Error())
	}
	x.FailStatus(fault.UpstreamUnavailable, 503, "the identity provider can't be asked")
	return exchange.Stop
}

// redirect answers with a redirect that nobody keeps, and cookies.
func redirect(x *exchange.Exchange, to string, j *jar) exchange.Verdict {
	x.Answer(302, "", nil)
	h := &x.Response.Header
	h.Add("Location", to)
	h.Add("Cache-Control", "no-store")
	for _, f := range j.fields {
		h.Add("Set-Cookie", f)
	}
	return exchange.Stop
}

// counters count what has become of users.
type counters struct {
	known, begun, finished, wrong, refreshed, ended, failed *telemetry.Counter
}

func newCounters(set *telemetry.Set) counters {
	signs := func(result string) *telemetry.Counter {
		return set.Counter("sign_ins_total",
			"Sign-ins that have begun, ended well, were refused, or could not go on without the provider.", "result", result)
	}
	return counters{
		begun: signs("begun"), finished: signs("done"), wrong: signs("refused"), failed: signs("error"),
		known:     set.Counter("known_total", "Requests with a session."),
		refreshed: set.Counter("refreshed_total", "Sessions that the provider has prolonged."),
		ended:     set.Counter("ended_total", "Sessions that users have ended."),
	}
}
