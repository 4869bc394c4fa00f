package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"gateway.internal/dataplane/internal/exchange"
)

// unknownKey is what a token is bound to where nobody can have shown it: no certificate has this fingerprint.
const unknownKey = "?"

// boundTo returns the fingerprint of the client's certificate that claims are bound to by cnf (RFC 8705 section 3.1), ""
// where they are bound to nothing, and unknownKey where it is another key (such as jkt, RFC 9449 section 6.1).
func boundTo(claims map[string]any) string {
	cnf, there := claims["cnf"]
	if !there {
		return ""
	}
	members, _ := cnf.(map[string]any)
	text, _ := members["x5t#S256"].(string)
	sum, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sum) != sha256.Size || len(members) != 1 {
		return unknownKey
	}
	return hex.EncodeToString(sum)
}

// Unproven says so to clients.
const Unproven = "the token is bound to a key that the client has not shown"

// Proves reports whether the request comes from who has the key that the token is bound to; a token that is bound to
// none is any bearer's.
func (c *Client) Proves(x *exchange.Exchange) bool {
	return c.bound == "" || x.TLS.Facts().Fingerprint == c.bound
}
