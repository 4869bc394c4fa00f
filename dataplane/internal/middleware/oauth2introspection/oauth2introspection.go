// Package oauth2introspection is the middleware type "oauth2_introspection": it finds out who a request comes from by
// asking an authorisation server about its token (RFC 7662).
package oauth2introspection

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

const (
	defaultMaxTokenBytes = 8 << 10
	defaultTTL           = 30 * time.Second
	defaultTimeout       = 2 * time.Second
	// maxInactive is how long it counts that a token is not active: it may be that the server learns of it later.
	maxInactive = 10 * time.Second
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.Oauth2Introspection)
	if !ok {
		return nil, fmt.Errorf("oauth2_introspection: settings are a %T", settings)
	}
	s := &step{
		optional: m.GetOptional(), removes: m.GetRemoveToken(), allows: m.GetOnError() == "allow", now: env.Now,
		maxToken: defaultMaxTokenBytes, ttl: defaultTTL, consumers: env.Consumers, log: env.Log,
		count: newCounters(env.Metrics),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if n := m.GetMaxTokenBytes(); n > 0 {
		s.maxToken = int(n)
	}
	var err error
	if text := m.GetCacheTtl(); text != "" {
		if s.ttl, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("oauth2_introspection: cache_ttl: %w", err)
		}
	}
	mapping := identity.NewMapping(m.GetClaimsToHeaders(), m.GetGroupsClaim(), m.GetScopeClaim(), m.GetConsumerClaim())
	if s.guard, err = identity.New(m, env, "Bearer", "", mapping.Fields()...); err != nil {
		return nil, fmt.Errorf("oauth2_introspection: %w", err)
	}
	s.server, err = keepServer(m, mapping, env)
	return s, err
}

type step struct {
	guard     *identity.Guard
	optional  bool
	removes   bool
	allows    bool // on errors
	maxToken  int
	ttl       time.Duration
	server    *live.Ref[*server]
	consumers func() *consumer.Set
	now       func() time.Time
	count     counters
	log       *slog.Logger
	silent    atomic.Bool // the last question had no answer: said once
}

// askedBy is what a server's answers are kept by: all that they depend on.
type askedBy struct {
	middleware string
	settings   [sha256.Size]byte
}

func keepServer(
	m *middlewarev1.Oauth2Introspection, mapping *identity.Mapping, env *pipeline.Environment,
) (*live.Ref[*server], error) {
	matter := proto.CloneOf(m)
	matter.Optional, matter.ExcludePaths, matter.RemoveToken, matter.MaxTokenBytes = false, nil, false, 0
	matter.CacheTtl, matter.OnError = "", ""
	settings, err := proto.MarshalOptions{Deterministic: true}.Marshal(matter)
	if err != nil {
		return nil, fmt.Errorf("oauth2_introspection: %w", err)
	}
	return live.Keep(env.Live, askedBy{env.Name, sha256.Sum256(settings)}, func() (*server, error) {
		return newServer(m, mapping, env)
	})
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if s.guard.Excluded(x) {
		return exchange.Continue
	}
	if p := x.Principal; s.optional && p != nil && p.Scheme == "Bearer" { // it is known whose the token is
		s.guard.Strip(x)
		return exchange.Continue
	}
	text, found := identity.BearerToken(&x.Request.Header)
	switch {
	case found == identity.NoBearer:
		return s.guard.Absent(x, fault.Unauthenticated, "a token is required: Authorization: Bearer TOKEN")
	case found == identity.SeveralCredentials:
		return s.refuse(x, "the request has several Authorization fields")
	case found == identity.WrongBearer:
		return s.refuse(x, "the Authorization field has no token of the Bearer scheme")
	case len(text) > s.maxToken:
		return s.refuse(x, "the token is too long")
	}
	server, now := s.server.Value(), s.now()
	a, known := server.answers.Get(text)
	if known && a.counts(now, s.ttl) {
		s.count.cached.Add(1)
		if a.ages(now, s.ttl) { // without a place for the question it is asked later
			server.begin(text, askerOf(x.Client.Addr(), true), true)
		}
		return s.apply(x, a)
	}
	if x.InLoop {
		return exchange.Later
	}
	ctx, stop := x.Context()
	defer stop()
	a, err := server.ask(ctx, text, askerOf(x.Client.Addr(), known && a.client != nil), s.ttl > 0)
	if err != nil {
		return s.failed(x, err)
	}
	if s.silent.CompareAndSwap(true, false) && s.log != nil {
		s.log.Info("the authorisation server tells about tokens again")
	}
	if !a.counts(s.now(), defaultTTL) { // such as one that has expired
		a = inactive
	}
	return s.apply(x, a)
}

// Response implements pipeline.Step.
func (s *step) Response(*exchange.Exchange) {}

func (s *step) apply(x *exchange.Exchange, a *answer) exchange.Verdict {
	if a.client == nil {
		s.count.inactive.Add(1)
		return s.refuse(x, "the token is not active")
	}
	s.count.active.Add(1)
	if !a.client.Proves(x) {
		return s.refuse(x, identity.Unproven)
	}
	if a.client.Accept(s.guard, x, s.consumers) == exchange.Stop {
		return exchange.Stop
	}
	if s.removes {
		x.Request.Header.Del("Authorization")
	}
	return exchange.Continue
}

func (s *step) refuse(x *exchange.Exchange, message string) exchange.Verdict {
	return s.guard.Wrong(x, fault.InvalidToken, message)
}

// failed is what becomes of a request whose token could not be asked about: nobody knows that it is wrong.
func (s *step) failed(x *exchange.Exchange, err error) exchange.Verdict {
	if x.ClientGone() {
		x.Fail(fault.ClientClosed, "the client broke off")
		return exchange.Stop
	}
	s.count.failed.Add(1)
	if s.silent.CompareAndSwap(false, true) && s.log != nil {
		s.log.Warn("the authorisation server can't be asked about tokens", "error", err.Error())
	}
	if s.allows {
		s.guard.Strip(x)
		return exchange.Continue
	}
	x.FailStatus(fault.UpstreamUnavailable, 503, "the server that knows tokens can't be asked")
	return exchange.Stop
}

// counters count what has become of tokens.
type counters struct {
	cached, active, inactive, failed *telemetry.Counter
}

func newCounters(set *telemetry.Set) counters {
	tokens := func(result string) *telemetry.Counter {
		return set.Counter("tokens_total",
			"Tokens, by what is known of them: active, inactive, or error where nobody could say.", "result", result)
	}
	return counters{
		active: tokens("active"), inactive: tokens("inactive"), failed: tokens("error"),
		cached: set.Counter("cached_total", "Tokens of which an answer was kept."),
	}
}
