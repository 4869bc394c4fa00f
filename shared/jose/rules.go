package jose

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// Rules are what tokens of one issuer have to keep to, besides their signature. They are immutable.
type Rules struct {
	// Issuer is compared as it is.
	Issuer string
	// Audiences are those of which a token has to name one; empty: any, or none.
	Audiences []string
	// Algorithms are the values of alg that are allowed; empty: DefaultAlgorithms.
	Algorithms []string
	// ClockSkew is by how much the issuer's clock may differ.
	ClockSkew time.Duration
	// AllowsNoExpiry takes tokens without exp.
	AllowsNoExpiry bool
}

// maxTime is the last second of the year 9999.
const maxTime = 253402300799

// IssuerOf returns who a token says it is from.
func (t *Token) IssuerOf() (string, *Refusal) {
	issuer, ok := t.Claims["iss"].(string)
	if !ok {
		return "", errNoIssuer
	}
	return issuer, nil
}

// Check reports what is wrong with a token but for its signature. expires is when it no longer counts, the skew
// included; zero: never.
func (r *Rules) Check(t *Token, now time.Time) (expires time.Time, refusal *Refusal) {
	algorithms := r.Algorithms
	if len(algorithms) == 0 {
		algorithms = defaultAlgorithms
	}
	if !slices.Contains(algorithms, t.Algorithm) {
		return time.Time{}, errAlgorithm
	}
	if !isAccessType(t.Type) {
		return time.Time{}, errType
	}
	if issuer, refusal := t.IssuerOf(); refusal != nil || issuer != r.Issuer {
		return time.Time{}, UntrustedIssuer
	}
	if len(r.Audiences) > 0 && !r.isFor(t.Claims["aud"]) {
		return time.Time{}, errAudience
	}
	return r.checkTimes(t, now)
}

// isAccessType reports whether tokens of a typ are for this. Others, such as the logout tokens of OpenID Connect, are
// not, though the same issuer signs them by the same key (RFC 8725 section 3.11).
func isAccessType(typ string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	return typ == "" || typ == "jwt" || typ == "at+jwt" || typ == "jose"
}

func (r *Rules) isFor(aud any) bool {
	switch aud := aud.(type) {
	case string:
		return slices.Contains(r.Audiences, aud)
	case []any:
		found := false
		for _, a := range aud {
			text, ok := a.(string)
			if !ok {
				return false
			}
			found = found || slices.Contains(r.Audiences, text)
		}
		return found
	}
	return false
}

func (r *Rules) checkTimes(t *Token, now time.Time) (expires time.Time, refusal *Refusal) {
	exp, hasExpiry, ok1 := t.timeOf("exp")
	nbf, hasStart, ok2 := t.timeOf("nbf")
	iat, hasIssued, ok3 := t.timeOf("iat")
	switch latest := now.Add(r.ClockSkew); {
	case !ok1 || !ok2 || !ok3:
		return expires, errTime
	case !hasExpiry && !r.AllowsNoExpiry:
		return expires, errNoExpiry
	case hasExpiry && !now.Before(exp.Add(r.ClockSkew)):
		return expires, errExpired
	case hasStart && nbf.After(latest):
		return expires, errNotYet
	case hasIssued && iat.After(latest):
		return expires, errIssuedLater
	}
	if hasExpiry {
		expires = exp.Add(r.ClockSkew)
	}
	return expires, nil
}

// timeOf reads a NumericDate (RFC 7519 section 2). ok tells that it is absent, or one.
func (t *Token) timeOf(claim string) (at time.Time, found, ok bool) {
	v, found := t.Claims[claim]
	if !found {
		return at, false, true
	}
	n, ok := v.(json.Number)
	if !ok {
		return at, true, false
	}
	seconds, err := n.Float64()
	if err != nil || seconds < 0 || seconds > maxTime {
		return at, true, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true, true
}
