package jose

import "slices"

// kind is what a key can be.
type kind uint8

const (
	kindRSA kind = iota
	kindP256
	kindP384
	kindP521
	kindEd25519
	kindSymmetric
)

// algorithms are the values of alg that are understood (RFC 7518 section 3.1, RFC 8037, RFC 9864): the one kind of key
// that each is for, and for symmetric keys the least bytes (RFC 7518 section 3.2). "none" is none of them.
var algorithms = map[string]struct {
	kind     kind
	keyBytes int
}{
	"RS256": {kindRSA, 0}, "RS384": {kindRSA, 0}, "RS512": {kindRSA, 0},
	"PS256": {kindRSA, 0}, "PS384": {kindRSA, 0}, "PS512": {kindRSA, 0},
	"ES256": {kindP256, 0}, "ES384": {kindP384, 0}, "ES512": {kindP521, 0},
	"EdDSA": {kindEd25519, 0}, "Ed25519": {kindEd25519, 0},
	"HS256": {kindSymmetric, 32}, "HS384": {kindSymmetric, 48}, "HS512": {kindSymmetric, 64},
}

// defaultAlgorithms are those with public keys.
var defaultAlgorithms = func() (names []string) {
	for name, a := range algorithms {
		if a.kind != kindSymmetric {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}()

// Algorithms returns the values of alg that are understood, sorted.
func Algorithms() (names []string) {
	for name := range algorithms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// DefaultAlgorithms returns those of them that are for public keys, sorted.
func DefaultAlgorithms() []string { return slices.Clone(defaultAlgorithms) }

// SymmetricAlgorithm reports whether an algorithm is for keys that sign and verify.
func SymmetricAlgorithm(name string) bool {
	a, ok := algorithms[name]
	return ok && a.kind == kindSymmetric
}
