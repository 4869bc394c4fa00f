// Package basicauth is the middleware type "basic_auth": it finds the consumer by a user and a password (RFC 7617).
package basicauth

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/credential"
	"gateway.internal/shared/fault"
)

const (
	scheme       = "Basic"
	defaultRealm = "gateway"
	defaultTTL   = 5 * time.Minute
	// maxPairBytes is the longest pair of user and password that may be one.
	maxPairBytes = 255 + 1 + credential.MaxPasswordBytes
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.BasicAuth)
	if !ok {
		return nil, fmt.Errorf("basic_auth: settings are a %T", settings)
	}
	s := &step{
		forward: m.GetForwardCredentials(), tells: m.GetConsumerHeader(), consumers: env.Consumers, now: env.Now,
		ttl: defaultTTL,
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if m.GetCacheTtl() != "" {
		if s.ttl, err = time.ParseDuration(m.GetCacheTtl()); err != nil {
			return nil, fmt.Errorf("basic_auth: cache_ttl: %w", err)
		}
	}
	if s.verified, err = live.Keep(env.Live, verifiedOf(env.Name), newVerified); err != nil {
		return nil, fmt.Errorf("basic_auth: %w", err)
	}
	if s.turns, err = live.Keep(env.Live, turnsOfNode{}, newTurns); err != nil {
		return nil, fmt.Errorf("basic_auth: %w", err)
	}
	s.cached = env.Metrics.Counter("cached_total", "Requests whose password had been verified lately.")
	s.took = env.Metrics.Durations("verification_seconds",
		"What the verification of a password took, waiting for its turn included.")
	s.crowded = env.Metrics.Counter("crowded_total",
		"Requests that were turned away, since too many passwords wait to be verified.")
	var strips []string
	if s.tells != "" {
		strips = append(strips, s.tells)
	}
	challenge := `realm="` + cmp.Or(m.GetRealm(), defaultRealm) + `", charset="UTF-8"`
	s.guard, err = identity.New(m, env, scheme, challenge, strips...)
	return s, err
}

// verifiedOf is the key of what a middleware keeps, turnsOfNode that of what all of a node share.
type (
	verifiedOf  string
	turnsOfNode struct{}
)

type step struct {
	guard     *identity.Guard
	forward   bool
	tells     string // the field that tells the service who it is
	consumers func() *consumer.Set
	now       func() time.Time
	ttl       time.Duration
	verified  *live.Ref[*verified]
	turns     *live.Ref[turns]

	cached, crowded *telemetry.Counter
	took            *telemetry.Durations
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if s.guard.Excluded(x) {
		return exchange.Continue
	}
	encoded, fields := "", 0
	for value := range x.Request.Header.Values("Authorization") {
		if fields++; fields == 1 {
			encoded = value
		}
	}
	encoded, own := behindScheme(encoded)
	switch {
	case !own && fields < 2:
		return s.guard.Absent(x, fault.Unauthenticated, "the request has no user and password")
	case fields > 1:
		return s.guard.Wrong(x, fault.Unauthenticated, "the request has several fields Authorization")
	}
	var memory [maxPairBytes]byte
	username, password, ok := pair(encoded, memory[:])
	if !ok {
		return s.guard.Wrong(x, fault.Unauthenticated, "the credentials are not those of the Basic scheme")
	}
	c := s.consumers().ByUsername(username)
	var key key
	kept := s.verified.Value()
	if c.Consumer() != nil && s.ttl > 0 {
		key = kept.key(encoded)
		if kept.has(key, c.Secret(), s.now()) {
			s.cached.Add(1)
			return s.accept(x, c)
		}
	}
	if x.InLoop {
		return exchange.Later
	}
	// The name and the password are copies from here on: verifying takes long.
	right, verdict := s.verify(x, c, strings.Clone(password))
	if verdict != exchange.Continue {
		return verdict
	}
	if !right {
		return s.guard.Wrong(x, fault.Unauthenticated, "the user or the password is wrong")
	}
	if s.ttl > 0 {
		kept.put(key, c.Secret(), s.now().Add(s.ttl))
	}
	return s.accept(x, c)
}

// Response implements pipeline.Step.
func (s *step) Response(*exchange.Exchange) {}

func (s *step) accept(x *exchange.Exchange, c consumer.Credential) exchange.Verdict {
	if v := s.guard.Accept(x, c.Consumer().Principal(scheme)); v != exchange.Continue {
		return v
	}
	if !s.forward {
		x.Request.Header.Del("Authorization")
	}
	if s.tells != "" {
		x.Request.Header.Set(s.tells, c.Consumer().Name())
	}
	return exchange.Continue
}

// noUser is the hash that is verified where there is no such user, so that it takes as long as for one that there is.
// It is of a password that is longer than any.
const noUser = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// verify waits for a turn and verifies a password. Where it does not come to that, the verdict is Stop.
func (s *step) verify(x *exchange.Exchange, c consumer.Credential, password string) (right bool, v exchange.Verdict) {
	begun := time.Now()
	ctx, stop := x.Context()
	defer stop()
	turns := s.turns.Value()
	switch err := turns.take(ctx); {
	case err == errCrowded:
		s.crowded.Add(1)
		x.FailStatus(fault.Overloaded, 503, "too many passwords wait to be verified")
		x.Response.Header.Set("Retry-After", "1")
		return false, exchange.Stop
	case err != nil && x.ClientGone():
		x.Fail(fault.ClientClosed, "the client broke off")
		return false, exchange.Stop
	case err != nil:
		x.FailStatus(fault.Overloaded, 503, "the password could not be verified in time")
		return false, exchange.Stop
	}
	defer turns.leave()
	hash := noUser
	if c.Consumer() != nil {
		hash = c.Secret()
	}
	right = credential.Verify(hash, password) && c.Consumer() != nil
	s.took.Observe(time.Since(begun))
	return right, exchange.Continue
}

// behindScheme returns what follows the scheme; own is false for credentials of another one.
func behindScheme(value string) (rest string, own bool) {
	if len(value) <= len(scheme) || !exchange.EqualFold(value[:len(scheme)], scheme) || value[len(scheme)] != ' ' {
		return "", exchange.EqualFold(value, scheme)
	}
	return strings.Trim(value[len(scheme):], " "), true
}

// pair decodes what the scheme carries into memory. Both are views of that.
func pair(encoded string, memory []byte) (username, password string, ok bool) {
	if base64.StdEncoding.DecodedLen(len(encoded)) > len(memory)+2 || len(encoded) == 0 {
		return "", "", false
	}
	var text [(maxPairBytes + 2) / 3 * 4]byte
	if len(encoded) > len(text) {
		return "", "", false
	}
	var plain [len(text) / 4 * 3]byte
	n, err := base64.StdEncoding.Strict().Decode(plain[:], text[:copy(text[:], encoded)])
	if err != nil || n == 0 || n > len(memory) {
		return "", "", false
	}
	copy(memory, plain[:n])
	both := unsafe.String(&memory[0], n)
	if !utf8.ValidString(both) || strings.ContainsFunc(both, unicode.IsControl) {
		return "", "", false
	}
	username, password, ok = strings.Cut(both, ":")
	return username, password, ok && username != ""
}
