package hmacauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"unsafe"

	"gateway.internal/dataplane/internal/exchange"
)

// appendBase writes the signature base (RFC 9421 section 2.5). ok is false where the request lacks a component, or one
// is not understood.
func appendBase(b []byte, x *exchange.Exchange, in *input) (base []byte, ok bool) {
	for i, c := range in.components[:in.covered] {
		name := string(c)
		for _, before := range in.components[:i] {
			if before == c {
				return b, false
			}
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `": `...)
		if name[0] == '@' {
			b, ok = appendDerived(b, x, name)
		} else {
			b, ok = appendField(b, x, name)
		}
		if !ok {
			return b, false
		}
		b = append(b, '\n')
	}
	b = append(b, `"@signature-params": `...)
	return in.appendParams(b), true
}

// appendDerived writes a derived component (RFC 9421 section 2.2). Paths are those that routes match on.
func appendDerived(b []byte, x *exchange.Exchange, name string) ([]byte, bool) {
	r := &x.Request
	switch name {
	case "@method":
		return append(b, r.Method...), true
	case "@scheme":
		return append(b, x.Scheme...), true
	case "@authority":
		return appendAuthority(b, x), true
	case "@path":
		return append(b, r.Path...), true
	case "@query":
		b = append(b, '?')
		return append(b, r.RawQuery...), true
	case "@request-target":
		return appendTarget(b, r), true
	case "@target-uri":
		b = append(b, x.Scheme...)
		b = append(b, "://"...)
		return appendTarget(appendAuthority(b, x), r), true
	}
	return b, false
}

func appendTarget(b []byte, r *exchange.Request) []byte {
	b = append(b, r.Path...)
	if r.HasQuery {
		b = append(b, '?')
		b = append(b, r.RawQuery...)
	}
	return b
}

// appendAuthority writes the host in lower case, without the scheme's own port.
func appendAuthority(b []byte, x *exchange.Exchange) []byte {
	host := x.Request.Host
	if x.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	for i := range len(host) {
		c := host[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}

// appendField writes all values of a field, as RFC 9421 section 2.1 has it.
func appendField(b []byte, x *exchange.Exchange, name string) ([]byte, bool) {
	if name == "host" {
		return append(b, x.Request.Host...), x.Request.Host != ""
	}
	n := 0
	for value := range x.Request.Header.Values(name) {
		if n++; n > 1 {
			b = append(b, ", "...)
		}
		b = append(b, strings.Trim(value, " \t")...)
	}
	return b, n > 0
}

// blockBytes is the block of SHA-256, which HMAC pads keys to (RFC 2104).
const blockBytes = 64

// signs reports whether an encoded signature is that of a base by a secret. base begins with blockBytes of room, which
// are written. It takes the same time whatever the signature is, and does not allocate.
func signs(encoded, secret string, base []byte) bool {
	var given [sha256.Size + 1]byte
	if len(encoded) != base64.StdEncoding.EncodedLen(sha256.Size) {
		return false
	}
	var text [44]byte
	n, err := base64.StdEncoding.Strict().Decode(given[:], text[:copy(text[:], encoded)])
	if err != nil || n != sha256.Size {
		return false
	}
	var key [blockBytes]byte
	if len(secret) > blockBytes {
		sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(secret), len(secret)))
		copy(key[:], sum[:])
	} else {
		copy(key[:], secret)
	}
	var outer [blockBytes + sha256.Size]byte
	for i, c := range key {
		base[i], outer[i] = c^0x36, c^0x5c
	}
	inner := sha256.Sum256(base)
	clear(base[:blockBytes])
	copy(outer[blockBytes:], inner[:])
	sum := sha256.Sum256(outer[:])
	return subtle.ConstantTimeCompare(sum[:], given[:n]) == 1
}
