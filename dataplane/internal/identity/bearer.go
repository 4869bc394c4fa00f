package identity

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// Bearer is what a request has of a token of the scheme Bearer (RFC 6750 section 2.1): in the field Authorization
// alone, never in the query or the body.
type Bearer uint8

const (
	// NoBearer is a request without credentials, or with those of another scheme.
	NoBearer Bearer = iota
	// HasBearer is a request with one token.
	HasBearer
	// WrongBearer is a request with the scheme, and without a token that could be one.
	WrongBearer
	// SeveralCredentials is a request with more than one field Authorization: which one counts is anybody's guess.
	SeveralCredentials
)

const (
	authorization = "Authorization"
	bearerScheme  = "Bearer"
)

// BearerToken returns the token of a request. It does not allocate.
func BearerToken(h *exchange.Header) (token string, found Bearer) {
	value, fields := "", 0
	for _, f := range h.Fields() {
		if len(f.Name) == len(authorization) && exchange.EqualFold(f.Name, authorization) {
			value = f.Value
			fields++
		}
	}
	if fields != 1 {
		if fields > 1 {
			return "", SeveralCredentials
		}
		return "", NoBearer
	}
	if len(value) < len(bearerScheme) || !exchange.EqualFold(value[:len(bearerScheme)], bearerScheme) {
		return "", NoBearer
	}
	rest := value[len(bearerScheme):]
	if rest != "" && rest[0] != ' ' {
		return "", NoBearer // another scheme, whose name begins so
	}
	token = strings.Trim(rest, " ")
	if token == "" {
		return "", WrongBearer
	}
	for i := range len(token) {
		if !tokenBytes[token[i]] {
			return "", WrongBearer
		}
	}
	return token, HasBearer
}

// tokenBytes are those of a token68 (RFC 9110 section 11.2).
var tokenBytes = func() (t [256]bool) {
	for c := range 256 {
		b := byte(c)
		t[c] = b|0x20 >= 'a' && b|0x20 <= 'z' || b >= '0' && b <= '9' || strings.IndexByte("-._~+/=", b) >= 0
	}
	return t
}()
