package identity

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"gateway.internal/shared/bearer"
)

// tokenMark begins every token that a control plane made: mark, id, secret and pin, with dots between.
const tokenMark = "gwj1."

// Token is a join token. It is either one that a control plane made, which has all three fields and is sent to the
// control plane whose authority it pins, or a Static one, a text that both planes were given and that never is sent.
type Token struct {
	// ID names the token in the store.
	ID string
	// Secret is what the store has only a hash of.
	Secret [32]byte
	// Pin is that of the authority which the control plane has to show.
	Pin [32]byte
	// Static is the whole text of a token that no control plane made; then all else is zero.
	Static string
}

// String returns the token as it is shown to people.
func (t Token) String() string {
	if t.Static != "" {
		return t.Static
	}
	b := base64.RawURLEncoding
	return tokenMark + t.ID + "." + b.EncodeToString(t.Secret[:]) + "." + b.EncodeToString(t.Pin[:])
}

// Hash is what is kept of the secret. The secret is random, so a fast hash is enough.
func (t Token) Hash() [32]byte { return sha256.Sum256(t.Secret[:]) }

var errToken = errors.New("is a damaged join token: one of gatewayctl join-token create has four parts, " +
	"with dots between, and has to be copied whole")

// ParseToken reads a token. Its errors do not have the token's text.
func ParseToken(text string) (Token, error) {
	rest, made := strings.CutPrefix(text, tokenMark)
	if !made {
		if err := bearer.Check(text); err != nil {
			return Token{}, err
		}
		return Token{Static: text}, nil
	}
	parts := strings.Split(rest, ".")
	if len(parts) != 3 || !plainID(parts[0]) {
		return Token{}, errToken
	}
	t := Token{ID: parts[0]}
	b := base64.RawURLEncoding.Strict()
	for i, to := range [][]byte{t.Secret[:], t.Pin[:]} {
		part := parts[i+1]
		if b.DecodedLen(len(part)) != len(to) {
			return Token{}, errToken
		}
		if _, err := b.Decode(to, []byte(part)); err != nil {
			return Token{}, errToken
		}
	}
	return t, nil
}

func plainID(id string) bool {
	return id != "" && len(id) <= 32 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// PinOf returns the pin of an authority: the SHA-256 of its public key, as in RFC 7469 section 2.4, so that an
// authority's certificate can be renewed.
func PinOf(authority *x509.Certificate) [32]byte {
	return sha256.Sum256(authority.RawSubjectPublicKeyInfo)
}

// Proofs of a static token bind it to one TLS connection: who relays them from another connection achieves nothing.
const (
	exporterLabel = "EXPORTER-gateway-join" // RFC 8446 section 7.5
	ofNode        = "node"
	ofControl     = "control plane"
	// stretching makes it dear to guess a token that a person made up from a proof that was overheard by whoever
	// took the place of a control plane.
	stretching = 100_000
)

// ProofKey is what proofs of a static token are made with. It is as secret as the token.
type ProofKey [32]byte

// NewProofKey derives the key, which takes some ten milliseconds.
func NewProofKey(static string) (ProofKey, error) {
	key, err := pbkdf2.Key(sha256.New, static, []byte("gateway join token"), stretching, 32)
	if err != nil {
		return ProofKey{}, fmt.Errorf("join token: %w", err)
	}
	return ProofKey(key), nil
}

// Proofs returns the two proofs that belong to a connection: the node shows its own first, and trusts a control plane
// that then shows the other.
func (k ProofKey) Proofs(connection *tls.ConnectionState) (node, control []byte, err error) {
	if connection.Version < tls.VersionTLS13 {
		return nil, nil, errors.New("a join token is proved over TLS 1.3 only")
	}
	bound, err := connection.ExportKeyingMaterial(exporterLabel, nil, 32)
	if err != nil {
		return nil, nil, fmt.Errorf("join token: %w", err)
	}
	proof := func(of string) []byte {
		h := hmac.New(sha256.New, k[:])
		h.Write([]byte(of + "\x00"))
		h.Write(bound)
		return h.Sum(nil)
	}
	return proof(ofNode), proof(ofControl), nil
}
