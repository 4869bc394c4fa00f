// Package jwt is the middleware type "jwt": it finds out who a request comes from by a signed token.
package jwt

import (
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/jwks"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/jose"
)

const (
	defaultMaxTokenBytes = 8 << 10
	defaultClockSkew     = 5 * time.Second
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.Jwt)
	if !ok {
		return nil, fmt.Errorf("jwt: settings are a %T", settings)
	}
	claims := identity.NewMapping(m.GetClaimsToHeaders(), m.GetGroupsClaim(), m.GetScopeClaim(), m.GetConsumerClaim())
	s := &step{
		issuers: map[string]*issuer{}, claims: claims, now: env.Now, log: env.Log, optional: m.GetOptional(),
		maxToken: defaultMaxTokenBytes, removes: m.GetRemoveToken(), consumers: env.Consumers,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if n := m.GetMaxTokenBytes(); n > 0 {
		s.maxToken = int(n)
	}
	var err error
	if s.guard, err = identity.New(m, env, "Bearer", "", claims.Fields()...); err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	s.count = newCounters(env.Metrics)
	for _, i := range m.GetIssuers() {
		one, err := newIssuer(i, env)
		if err != nil {
			return nil, fmt.Errorf("jwt: issuer %s: %w", i.GetIssuer(), err)
		}
		s.issuers[i.GetIssuer()] = one
	}
	s.verified, err = keepVerified(m, env)
	return s, err
}

type step struct {
	guard    *identity.Guard
	optional bool
	issuers  map[string]*issuer
	claims   *identity.Mapping
	verified *live.Ref[*cache]
	maxToken int
	removes  bool
	// consumers has those of the configuration, as they are now.
	consumers func() *consumer.Set
	now       func() time.Time
	count     counters
	log       *slog.Logger
}

// issuer is who may issue tokens.
type issuer struct {
	rules jose.Rules
	set   *jose.Set               // that the settings have; nil: published has them
	keys  *live.Ref[*jwks.Source] // nil: the settings have them
}

// publishedBy is what sources of keys are kept by: the middleware, since the counters are its own, and the URL.
type publishedBy struct{ middleware, issuer, url string }

func newIssuer(m *middlewarev1.JwtIssuer, env *pipeline.Environment) (*issuer, error) {
	i := &issuer{rules: jose.Rules{
		Issuer: m.GetIssuer(), Audiences: m.GetAudiences(), Algorithms: m.GetAlgorithms(), ClockSkew: defaultClockSkew,
		AllowsNoExpiry: m.GetAllowMissingExpiry(),
	}}
	var err error
	if text := m.GetClockSkew(); text != "" {
		if i.rules.ClockSkew, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("clock_skew: %w", err)
		}
	}
	if text := m.GetJwks(); text != "" {
		if i.set, _, err = jose.ParseSet([]byte(text), true); err != nil {
			return nil, fmt.Errorf("jwks %w", err)
		}
		return i, nil
	}
	by := publishedBy{env.Name, m.GetIssuer(), m.GetJwksUrl()}
	i.keys, err = live.Keep(env.Live, by, func() (*jwks.Source, error) {
		return jwks.New(jwks.Settings{
			Fetch: jwks.FetchURL(env.Egress, by.url), Name: by.issuer, Log: env.Log, Metrics: env.Metrics,
		}), nil
	})
	return i, err
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if s.guard.Excluded(x) {
		return exchange.Continue
	}
	text, found := identity.BearerToken(&x.Request.Header)
	switch found {
	case identity.NoBearer:
		return s.guard.Absent(x, fault.Unauthenticated, "a token is required: Authorization: Bearer TOKEN")
	case identity.SeveralCredentials:
		return s.refuse(x, jose.Malformed, "the request has several Authorization fields")
	case identity.WrongBearer:
		return s.refuse(x, jose.Malformed, "the Authorization field has no token of the Bearer scheme")
	}
	now := s.now()
	if v := s.kept(text, now); v != nil {
		s.count.cached.Add(1)
		return s.accept(x, v)
	}
	if len(text) > s.maxToken {
		return s.refuse(x, jose.TooLong.Reason, jose.TooLong.Message)
	}
	if s.optional && !jose.LooksLikeToken(text) {
		return s.guard.Absent(x, fault.Unauthenticated, "")
	}
	return s.verify(x, text, now)
}

// Response implements pipeline.Step.
func (s *step) Response(*exchange.Exchange) {}

// verify finds out about a token that is not kept. What takes long is not done in a loop.
func (s *step) verify(x *exchange.Exchange, text string, now time.Time) exchange.Verdict {
	token, refusal := jose.Parse(text)
	if refusal != nil {
		return s.refuse(x, refusal.Reason, refusal.Message)
	}
	name, refusal := token.IssuerOf()
	if refusal != nil {
		return s.refuse(x, refusal.Reason, refusal.Message)
	}
	from := s.issuers[name]
	if from == nil {
		return s.refuse(x, jose.UntrustedIssuer.Reason, jose.UntrustedIssuer.Message)
	}
	expires, refusal := from.rules.Check(token, now)
	if refusal != nil {
		return s.refuse(x, refusal.Reason, refusal.Message)
	}
	if x.InLoop && !from.quick(token) {
		return exchange.Later
	}
	key, refusal, err := from.verify(x, token)
	switch {
	case err != nil:
		return s.unavailable(x)
	case refusal != nil:
		return s.refuse(x, refusal.Reason, refusal.Message)
	}
	v := &verified{client: s.claims.Client(token.Claims, "Bearer"), key: key, until: expires}
	s.keep(text, v, now)
	s.count.verified.Add(1)
	return s.accept(x, v)
}

// quick reports whether finding out whether a key has signed a token takes neither waiting nor long.
func (i *issuer) quick(t *jose.Token) bool {
	set := i.set
	if set == nil {
		if set = i.keys.Value().Set(); set == nil {
			return false
		}
	}
	if set.May(t) {
		return jose.SymmetricAlgorithm(t.Algorithm)
	}
	return i.keys == nil || !i.keys.Value().MayRefresh()
}

// verify returns the key that has signed a token. The error says why the issuer's keys can't be had.
func (i *issuer) verify(x *exchange.Exchange, t *jose.Token) (*jose.Key, *jose.Refusal, error) {
	if i.keys == nil {
		key, refusal := i.set.Verify(t)
		return key, refusal, nil
	}
	source := i.keys.Value()
	set := source.Set()
	if set == nil {
		ctx, stop := x.Context()
		defer stop()
		var err error
		if set, err = source.Wait(ctx); err != nil {
			return nil, nil, err
		}
	}
	key, refusal := set.Verify(t)
	if refusal == nil || refusal.Reason != jose.UnknownKey && t.HasKeyID || !source.MayRefresh() {
		return key, refusal, nil
	}
	ctx, stop := x.Context()
	defer stop()
	if source.Refresh(ctx) {
		key, refusal = source.Set().Verify(t)
	}
	return key, refusal, nil
}

// accept lets a request go on as whom its token says.
func (s *step) accept(x *exchange.Exchange, v *verified) exchange.Verdict {
	if !v.client.Proves(x) {
		return s.refuse(x, jose.Unproven, identity.Unproven)
	}
	if v.client.Accept(s.guard, x, s.consumers) == exchange.Stop {
		return exchange.Stop
	}
	if s.removes {
		x.Request.Header.Del("Authorization")
	}
	return exchange.Continue
}

func (s *step) refuse(x *exchange.Exchange, why jose.Reason, message string) exchange.Verdict {
	s.count.refused[why].Add(1)
	return s.guard.Wrong(x, fault.InvalidToken, message)
}

// unavailable answers a request whose token can't be judged.
func (s *step) unavailable(x *exchange.Exchange) exchange.Verdict {
	s.count.unavailable.Add(1)
	if x.ClientGone() {
		x.Fail(fault.ClientClosed, "the client broke off")
		return exchange.Stop
	}
	x.FailStatus(fault.UpstreamUnavailable, 503, "the keys of the token's issuer can't be had")
	return exchange.Stop
}

// counters count what has become of tokens.
type counters struct {
	cached, verified, unavailable *telemetry.Counter
	refused                       map[jose.Reason]*telemetry.Counter
}

func newCounters(set *telemetry.Set) counters {
	c := counters{
		cached:      set.Counter("cached_total", "Tokens that were known to be right."),
		verified:    set.Counter("verified_total", "Tokens whose signature was verified."),
		unavailable: set.Counter("unavailable_total", "Tokens that could not be judged without their issuer's keys."),
		refused:     map[jose.Reason]*telemetry.Counter{},
	}
	for _, why := range jose.Reasons() {
		c.refused[why] = set.Counter("refused_total", "Tokens that were refused, by the reason.", "reason", why.String())
	}
	return c
}
