package jose

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"
)

// minRSABits is what RFC 7518 section 3.3 demands; above maxRSABits a verification takes milliseconds.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// Key verifies tokens. It is immutable but for Gone, and safe for concurrent use.
type Key struct {
	// ID is the kid; see HasID.
	ID string
	// HasID tells an empty kid from none.
	HasID bool

	algorithm string // its own; empty: any that fits its kind
	kind      kind
	verifies  any // what jwsbb.Verify takes
	bytes     int // of a symmetric key
	print     [sha256.Size]byte
	gone      atomic.Bool
}

// Gone reports whether the key is no longer one of its issuer's: what it has verified counts no more.
func (k *Key) Gone() bool { return k.gone.Load() }

// Symmetric reports whether the key signs as well.
func (k *Key) Symmetric() bool { return k.kind == kindSymmetric }

// fits reports whether the key may verify tokens with an alg.
func (k *Key) fits(algorithm string) bool {
	a, ok := algorithms[algorithm]
	return ok && a.kind == k.kind && a.keyBytes <= k.bytes && (k.algorithm == "" || k.algorithm == algorithm)
}

// verify reports whether the key has signed a token, whose alg it fits.
func (k *Key) verify(t *Token) bool {
	return jwsbb.Verify(k.verifies, t.Algorithm, t.signed, t.signature) == nil
}

// The reasons why a key is no use here, though its set may be right to have it.
var (
	errNotForSigning = errors.New("is not for signatures: use and key_ops say so")
	errKind          = errors.New("has no kty and crv that are supported: " +
		"RSA, EC with P-256, P-384 or P-521, OKP with Ed25519, oct")
)

// parseKey makes a key of a JWK (RFC 7517 section 4) that ParseObject has read.
func parseKey(m map[string]any) (*Key, error) {
	k := &Key{}
	if id, there := m["kid"]; there {
		if k.ID, k.HasID = id.(string); !k.HasID || len(k.ID) > maxKeyIDBytes {
			return nil, fmt.Errorf("has a kid that is no text of at most %d bytes", maxKeyIDBytes)
		}
	}
	if !signs(m) {
		return nil, errNotForSigning
	}
	if alg, there := m["alg"]; there {
		k.algorithm, _ = alg.(string)
		if _, known := algorithms[k.algorithm]; !known {
			return nil, errors.New("has an alg that is no signature algorithm that is supported")
		}
	}
	if kty, _ := m["kty"].(string); kty != "oct" {
		for _, private := range [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
			if _, there := m[private]; there {
				return nil, errors.New("is a private key, which has no place here: publish the public one")
			}
		}
	}
	if err := k.material(m); err != nil {
		return nil, err
	}
	if k.algorithm != "" && !k.fits(k.algorithm) {
		return nil, errors.New("does not fit its own alg, by its kty, crv or length")
	}
	text, err := json.Marshal(m) // sorted
	if err != nil {
		return nil, err
	}
	k.print = sha256.Sum256(text)
	return k, nil
}

// signs reports whether a key may verify signatures (RFC 7517 sections 4.2 and 4.3).
func signs(m map[string]any) bool {
	if use, there := m["use"]; there && use != "sig" {
		return false
	}
	ops, there := m["key_ops"]
	if !there {
		return true
	}
	list, _ := ops.([]any)
	return slices.Contains(list, any("verify")) || m["kty"] == "oct" && slices.Contains(list, any("sign"))
}

// material reads what the key verifies by.
func (k *Key) material(m map[string]any) error {
	bare := map[string]any{} // of the rest, such as x5c, nothing is to count
	for _, name := range [...]string{"kty", "crv", "x", "y", "n", "e", "k"} {
		if v, there := m[name]; there {
			bare[name] = v
		}
	}
	text, err := json.Marshal(bare)
	if err != nil {
		return err
	}
	parsed, err := jwk.ParseKey(text)
	if err != nil {
		return errors.New("has parameters that make no key of its kty")
	}
	var raw any
	if err := jwk.Export(parsed, &raw); err != nil {
		return errKind
	}
	switch raw := raw.(type) {
	case *rsa.PublicKey:
		k.kind = kindRSA
		err = checkRSA(raw)
	case *ecdsa.PublicKey:
		k.kind, err = curveOf(raw)
	case ed25519.PublicKey:
		k.kind = kindEd25519
	case []byte:
		k.kind, k.bytes = kindSymmetric, len(raw)
		if k.bytes < algorithms["HS256"].keyBytes {
			err = errors.New("is too short for HS256, which wants 32 bytes")
		}
	default:
		err = errKind
	}
	k.verifies = raw
	return err
}

func curveOf(key *ecdsa.PublicKey) (kind, error) {
	if _, err := key.ECDH(); err != nil { // it is not on its curve
		return 0, errors.New("is no point of its curve")
	}
	switch key.Curve {
	case elliptic.P256():
		return kindP256, nil
	case elliptic.P384():
		return kindP384, nil
	case elliptic.P521():
		return kindP521, nil
	}
	return 0, errKind
}

func checkRSA(key *rsa.PublicKey) error {
	switch bits := key.N.BitLen(); {
	case bits < minRSABits || bits > maxRSABits:
		return fmt.Errorf("has %d bits, which have to be from %d to %d", bits, minRSABits, maxRSABits)
	case key.E < 3 || key.E%2 == 0:
		return errors.New("has an exponent that is no odd number from 3 on")
	case isROCA(key.N):
		return errors.New("is one of those that can be factored (CVE-2017-15361)")
	}
	return nil
}

// isROCA reports whether a modulus is one that the library of CVE-2017-15361 makes: modulo each small prime it is a
// power of 65537 (Nemec and others, "The Return of Coppersmith's Attack", section 2).
func isROCA(n *big.Int) bool {
	var rest big.Int
	for _, p := range [...]int64{
		3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113,
		127, 131, 137, 139, 149, 151, 157, 163, 167,
	} {
		r := rest.Mod(n, big.NewInt(p)).Int64()
		power, found := int64(1), false
		for range p {
			found = found || power == r
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}
