// Package hmacauth is the middleware type "hmac_auth": it finds the consumer by the signature of the request, HTTP
// message signatures (RFC 9421) with hmac-sha256.
package hmacauth

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

// The defaults of settings.
const (
	defaultMaxAge = 5 * time.Minute
	defaultSkew   = 30 * time.Second
	defaultNonces = 100_000
	defaultBody   = 1 << 20
)

// scheme is what a principal's credentials have come by. Signature is no scheme of a challenge (RFC 9421 has none).
const scheme = "Signature"

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.HmacAuth)
	if !ok {
		return nil, fmt.Errorf("hmac_auth: settings are a %T", settings)
	}
	s := &step{
		components: m.GetComponents(), label: m.GetLabel(), maxAge: defaultMaxAge, skew: defaultSkew, nonce: m.GetNonce(),
		maxNonces: cmp.Or(int(m.GetMaxNonces()), defaultNonces), maxBody: cmp.Or(int(m.GetMaxBodyBytes()), defaultBody),
		forward: m.GetForwardCredentials(), tells: m.GetConsumerHeader(), consumers: env.Consumers, now: env.Now,
	}
	if len(s.components) == 0 {
		s.components = []string{"@method", "@authority", "@path", "@query"}
	}
	if s.digest = slices.Index(s.components, digestField); s.digest >= 0 {
		s.components = slices.Delete(slices.Clone(s.components), s.digest, s.digest+1)
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if text := m.GetMaxAge(); text != "" {
		if s.maxAge, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("hmac_auth: max_age: %w", err)
		}
	}
	if text := m.GetClockSkew(); text != "" {
		if s.skew, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("hmac_auth: clock_skew: %w", err)
		}
	}
	if s.seen, err = live.Keep(env.Live, noncesOf(env.Name), newNonces); err != nil {
		return nil, fmt.Errorf("hmac_auth: %w", err)
	}
	var strips []string
	if s.tells != "" {
		strips = append(strips, s.tells)
	}
	s.guard, err = identity.New(m, env, "", "", strips...)
	return s, err
}

// noncesOf is the key of what a middleware remembers.
type noncesOf string

const digestField = "content-digest"

type step struct {
	guard        *identity.Guard
	components   []string // that have to be covered, but for Content-Digest
	digest       int      // negative: that need not be
	label        string
	maxAge, skew time.Duration
	nonce        bool
	maxNonces    int
	maxBody      int
	forward      bool
	tells        string // the field that tells the service who it is
	consumers    func() *consumer.Set
	now          func() time.Time
	seen         *live.Ref[*nonces]
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if s.guard.Excluded(x) {
		return exchange.Continue
	}
	inputs, one := single(x, "Signature-Input")
	signatures, other := single(x, "Signature")
	if inputs == "" && signatures == "" {
		return s.guard.Absent(x, fault.Unauthenticated, "the request has no signature")
	}
	if !one || !other {
		return s.wrong(x, "the request has several fields Signature or Signature-Input")
	}
	var in input
	found, ok := signatureInput(inputs, s.label, &in)
	switch {
	case !ok:
		return s.wrong(x, "Signature-Input can't be read, or has several signatures")
	case !found && s.label != "":
		return s.guard.Absent(x, fault.Unauthenticated, "the request has no signature of the label that counts")
	}
	encoded, ok := byteSequence(signatures, in.label)
	if !ok {
		return s.wrong(x, "Signature can't be read, or has no signature of the label")
	}
	if why := s.checkParameters(&in); why != "" {
		return s.wrong(x, why)
	}
	for _, c := range s.components {
		if !in.covers(c) {
			return s.wrong(x, "the signature does not cover all that it has to")
		}
	}
	withDigest := in.covers(digestField)
	if s.digest >= 0 && !withDigest && x.Request.ContentLength != 0 {
		return s.wrong(x, "the signature does not cover Content-Digest")
	}
	if withDigest && x.InLoop && x.Request.ContentLength != 0 {
		return exchange.Later // before anything is remembered of it
	}
	id, _ := in.parameter("keyid")
	c := s.consumers().ByHMACID(id.value)
	secret := noSecret
	if c.Consumer() != nil {
		secret = c.Secret()
	}
	if !s.signed(x, &in, encoded, secret) || c.Consumer() == nil {
		return s.wrong(x, "the signature is wrong")
	}
	if withDigest {
		if v, fine := s.checkDigest(x); !fine {
			return v
		}
	}
	if s.nonce {
		n, _ := in.parameter("nonce")
		who := c.Consumer().Name()
		switch s.seen.Value().use(who, id.value, n.value, s.now(), s.maxAge+2*s.skew, s.maxNonces) {
		case replayed:
			return s.wrong(x, "the signature has been used before")
		case full:
			x.FailStatus(fault.Overloaded, 503, "too many signatures of the consumer to remember")
			return exchange.Stop
		}
	}
	if v := s.guard.Accept(x, c.Consumer().Principal(scheme)); v != exchange.Continue {
		return v
	}
	if !s.forward {
		x.Request.Header.Del("Signature")
		x.Request.Header.Del("Signature-Input")
	}
	if s.tells != "" {
		x.Request.Header.Set(s.tells, c.Consumer().Name())
	}
	return exchange.Continue
}

// noSecret stands for that of an id which nobody has, so that it takes as long.
const noSecret = "no secret of anybody at all"

// Response implements pipeline.Step.
func (s *step) Response(*exchange.Exchange) {}

func (s *step) wrong(x *exchange.Exchange, why string) exchange.Verdict {
	return s.guard.Wrong(x, fault.Unauthenticated, why)
}

// single returns a field's value; one is false where there are several: others may look at another one.
func single(x *exchange.Exchange, name string) (value string, one bool) {
	n := 0
	for v := range x.Request.Header.Values(name) {
		if n++; n == 1 {
			value = v
		}
	}
	return value, n < 2
}

// checkParameters returns what is wrong with those of a signature; "": nothing.
func (s *step) checkParameters(in *input) string {
	if alg, there := in.parameter("alg"); there && (!alg.isString || alg.value != "hmac-sha256") {
		return "the algorithm of the signature is not hmac-sha256"
	}
	if id, there := in.parameter("keyid"); !there || !id.isString || id.value == "" {
		return "the signature has no keyid"
	}
	now := s.now()
	created, there := in.time("created")
	switch {
	case !there:
		return "the signature does not say when it was created"
	case created.After(now.Add(s.skew)):
		return "the signature was created in the future"
	case created.Before(now.Add(-s.maxAge - s.skew)):
		return "the signature is too old"
	}
	if _, says := in.parameter("expires"); says {
		if expires, ok := in.time("expires"); !ok || !now.Before(expires.Add(s.skew)) {
			return "the signature has expired"
		}
	}
	if n, there := in.parameter("nonce"); s.nonce && (!there || !n.isString || n.value == "" || len(n.value) > 256) {
		return "the signature has no nonce"
	}
	return ""
}

// time returns a parameter that is a time in seconds.
func (in *input) time(name string) (t time.Time, ok bool) {
	p, there := in.parameter(name)
	if !there || p.isString || len(p.value) > 15 { // what an integer may have (RFC 8941 section 3.3.1)
		return t, false
	}
	n, err := strconv.ParseUint(p.value, 10, 63)
	if err != nil || p.value[0] == '0' && n > 0 {
		return t, false
	}
	return time.Unix(int64(n), 0), true
}

// signed reports whether the signature is the request's by a secret.
func (s *step) signed(x *exchange.Exchange, in *input, encoded, secret string) bool {
	start := len(x.Texts)
	var pad [blockBytes]byte
	x.Texts = append(x.Texts, pad[:]...)
	var ok bool
	if x.Texts, ok = appendBase(x.Texts, x, in); !ok {
		return false
	}
	return signs(encoded, secret, x.Texts[start:])
}

// checkDigest compares the request's body with Content-Digest (RFC 9530): one of sha-256 and sha-512 has to be there,
// and those that are have to be right.
func (s *step) checkDigest(x *exchange.Exchange) (v exchange.Verdict, fine bool) {
	value, one := single(x, digestField)
	if !one {
		return s.wrong(x, "the request has several fields Content-Digest"), false
	}
	var body []byte
	if x.Request.ContentLength != 0 {
		var err error
		if body, err = x.ReadBody(s.maxBody); err != nil {
			why := &fault.Error{Code: fault.BadRequest, Reason: "the request's body broke off"}
			errors.As(err, &why)
			x.Fail(why.Code, why.Reason)
			return exchange.Stop, false
		}
	}
	right := false
	short, long := sha256.Sum256(body), sha512.Sum512(body)
	for _, d := range []struct {
		name string
		sum  []byte
	}{{"sha-256", short[:]}, {"sha-512", long[:]}} {
		encoded, there := byteSequence(value, d.name)
		if !there {
			continue
		}
		given, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || subtle.ConstantTimeCompare(given, d.sum) != 1 {
			return s.wrong(x, "the request's body does not have the digest that Content-Digest says"), false
		}
		right = true
	}
	if !right {
		return s.wrong(x, "Content-Digest can't be read, or has neither sha-256 nor sha-512"), false
	}
	return exchange.Continue, true
}
