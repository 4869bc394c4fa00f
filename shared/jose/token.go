// Package jose reads signed tokens (JWS in its compact form, RFC 7515; JWT, RFC 7519) and the keys that they are
// verified by (JWK, RFC 7517), more strictly than these allow: what other readers might understand in another way is
// refused (RFC 8725). It fetches nothing, and follows nothing that a token names: only keys that it is given verify.
package jose

import (
	"encoding/base64"
	"strings"
)

// MaxTokenBytes is the longest token that Parse reads whatever its caller allows.
const MaxTokenBytes = 64 << 10

// maxKeyIDBytes is the longest kid of a token that is looked for, and of a key that is taken.
const maxKeyIDBytes = 256

// Token is a token that was read. Nothing of it is verified.
type Token struct {
	// Algorithm, KeyID and Type are the header's alg, kid and typ. An absent typ is empty; see HasKeyID.
	Algorithm, KeyID, Type string
	// HasKeyID tells an empty kid from none.
	HasKeyID bool
	// Claims are the payload's members as ParseObject has them.
	Claims map[string]any

	signed    []byte // what the signature is of
	signature []byte
}

// LooksLikeToken reports whether a text may be a token in the compact form, so that it is a wrong one where Parse
// refuses it, rather than something else: three parts, of which the first begins as a JSON object does.
func LooksLikeToken(text string) bool {
	return strings.Count(text, ".") == 2 && strings.HasPrefix(text, "ey")
}

// Parse reads a token in the compact form whose payload is an object. The Token has no views of text.
func Parse(text string) (*Token, *Refusal) {
	t, payload, refusal := parse(text)
	if refusal != nil {
		return nil, refusal
	}
	var err error
	if t.Claims, err = ParseObject(payload); err != nil {
		return nil, refuse(Malformed, "the token's payload "+err.Error())
	}
	return t, nil
}

// parse reads a token that may have any payload.
func parse(text string) (t *Token, raw []byte, refusal *Refusal) {
	header, payload, signature, refusal := split(text)
	if refusal != nil {
		return nil, nil, refusal
	}
	raw, ok := decode(header)
	if !ok {
		return nil, nil, refuse(Malformed, "the token's header is not in base64url")
	}
	t = &Token{signed: []byte(text[:len(header)+1+len(payload)])}
	if refusal := t.readHeader(raw); refusal != nil {
		return nil, nil, refusal
	}
	if t.signature, ok = decode(signature); !ok {
		return nil, nil, refuse(Malformed, "the token's signature is not in base64url")
	}
	if raw, ok = decode(payload); !ok {
		return nil, nil, refuse(Malformed, "the token's payload is not in base64url")
	}
	return t, raw, nil
}

func split(text string) (header, payload, signature string, refusal *Refusal) {
	if len(text) > MaxTokenBytes {
		return "", "", "", TooLong
	}
	header, rest, _ := strings.Cut(text, ".")
	payload, signature, found := strings.Cut(rest, ".")
	if !found || strings.IndexByte(signature, '.') >= 0 {
		return "", "", "", refuse(Malformed, "the token has not three parts")
	}
	return header, payload, signature, nil
}

// decode reads base64url without padding (RFC 7515 section 2), in the one form that a text has.
func decode(part string) ([]byte, bool) {
	for i := range len(part) {
		if part[i] == '\n' || part[i] == '\r' { // which the package skips
			return nil, false
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return b, err == nil
}

// readHeader takes what a header says that counts. Of the rest, some must not be there: what a reader that knows it
// would heed.
func (t *Token) readHeader(raw []byte) *Refusal {
	h, err := ParseObject(raw)
	if err != nil {
		return refuse(Malformed, "the token's header "+err.Error())
	}
	for _, name := range [...]string{"crit", "b64"} { // RFC 7515 section 4.1.11: none is understood
		if _, there := h[name]; there {
			return refuse(Malformed, "the token's header has "+name+", which is not supported")
		}
	}
	if _, there := h["enc"]; there {
		return refuse(Malformed, "the token is encrypted, which is not supported")
	}
	var ok bool
	if t.Algorithm, ok = h["alg"].(string); !ok || t.Algorithm == "" {
		return refuse(Malformed, "the token's header has no alg that is a text")
	}
	if id, there := h["kid"]; there {
		if t.KeyID, t.HasKeyID = id.(string); !t.HasKeyID {
			return refuse(Malformed, "the token's kid is no text")
		}
	}
	if typ, there := h["typ"]; there {
		if t.Type, ok = typ.(string); !ok {
			return refuse(Malformed, "the token's typ is no text")
		}
	}
	return nil
}
