// Package credential has the form in which credentials are stored, so that what a store, a backup or a node's disk has
// of them can't be used in their place: API keys as a hash, passwords as a slow one. It does not know whose they are.
package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// The lengths of API keys, in bytes.
const (
	MinKeyBytes = 16
	MaxKeyBytes = 512
)

// KeyPrefix begins what is stored of an API key, HashChars of base64url follow it.
const (
	KeyPrefix = "sha256:"
	HashChars = 43
)

// keyDomain keeps hashes of API keys apart from those that anything else makes of the same text.
const keyDomain = "gateway-api-key-v1\x00"

// Hash is what an API key is found by: SHA-256 of it in a domain of its own, in base64url without padding. A fast hash
// is right for keys that are random: from 128 bits on nobody finds one by trying, however fast that is, and a slow hash
// without a salt would only make each request slow. It is no hash for passwords.
//
// The hash also makes the time that a lookup takes say nothing of the keys: of two keys that differ in one bit the
// hashes have nothing in common.
type Hash [HashChars]byte

// HashKey returns the hash of a key. It does not allocate for keys of up to MaxKeyBytes; longer ones are none, and have
// the hash of no key.
func HashKey(key string) (h Hash) {
	var text [len(keyDomain) + MaxKeyBytes]byte
	if len(key) > MaxKeyBytes {
		return h
	}
	n := copy(text[:], keyDomain)
	n += copy(text[n:], key)
	sum := sha256.Sum256(text[:n])
	base64.RawURLEncoding.Encode(h[:], sum[:])
	return h
}

// StoredKey returns what is stored of a key: the key itself where it is that already.
func StoredKey(key string) string {
	if IsStoredKey(key) {
		return key
	}
	h := HashKey(key)
	return KeyPrefix + string(h[:])
}

// IsStoredKey reports whether a text is what is stored of a key.
func IsStoredKey(s string) bool {
	hash, ok := strings.CutPrefix(s, KeyPrefix)
	if !ok || len(hash) != HashChars {
		return false
	}
	var sum [sha256.Size]byte
	n, err := base64.RawURLEncoding.Strict().Decode(sum[:], []byte(hash))
	return err == nil && n == len(sum)
}

// CheckKey says what is wrong with a key that somebody has chosen, or with what is stored of one; nil: nothing. The
// error does not have the key.
func CheckKey(key string) error {
	switch {
	case strings.HasPrefix(key, KeyPrefix) && !IsStoredKey(key):
		return fmt.Errorf("begins with %q and is no hash: that is followed by %d characters of base64url", KeyPrefix,
			HashChars)
	case len(key) < MinKeyBytes || len(key) > MaxKeyBytes:
		return fmt.Errorf("has %d characters: a key has %d to %d, which should be random", len(key), MinKeyBytes, MaxKeyBytes)
	case !IsVisible(key):
		return errors.New("has other characters than visible ASCII, which no header field carries as they are")
	}
	return nil
}

// NewKey makes a key of 256 random bits.
func NewKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "gwk_" + base64.RawURLEncoding.EncodeToString(b[:])
}

// IsVisible reports whether a text has visible ASCII alone.
func IsVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
