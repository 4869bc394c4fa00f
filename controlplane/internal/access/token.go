package access

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/big"
	"strings"
)

// Prefix is what the tokens begin with that the control plane makes for users and services: scanners for secrets that
// were published by accident find them by it.
const Prefix = "gwa_"

const (
	// randomChars is how many characters 256 random bits have in base 62, checkChars how many a CRC-32 has.
	randomChars = 43
	checkChars  = 6

	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// Hash is the SHA-256 of a token's text: all that is kept of it. A token has 256 random bits, so that nobody finds the
// text that has a hash; a slow hash, as for passwords, would add nothing.
type Hash [sha256.Size]byte

// HashOf returns the hash of a token's text.
func HashOf(text string) Hash { return sha256.Sum256([]byte(text)) }

// NewToken returns the text of a token that nobody has seen: Prefix, 256 random bits, and their CRC-32.
func NewToken() (string, error) { return newText(Prefix) }

func newText(prefix string) (string, error) {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	random := base62(secret[:], randomChars)
	return prefix + random + checkOf(random), nil
}

// IsToken reports whether a text has the form of such a token, with the right check: what was mistyped, or made up by
// somebody who does not know the form, is seen without a look at any list.
func IsToken(text string) bool { return hasForm(text, Prefix) }

func hasForm(text, prefix string) bool {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok || len(rest) != randomChars+checkChars {
		return false
	}
	return checkOf(rest[:randomChars]) == rest[randomChars:]
}

// IsGuessable reports whether a text has not the form of a token that nobody can guess.
func IsGuessable(text string) bool { return !IsToken(text) && !isJWT(text) }

func checkOf(random string) string {
	sum := crc32.ChecksumIEEE([]byte(random))
	return base62([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, checkChars)
}

// base62 writes a number with leading zeros.
func base62(number []byte, chars int) string {
	n, base, digit := new(big.Int).SetBytes(number), big.NewInt(int64(len(alphabet))), new(big.Int)
	out := make([]byte, chars)
	for i := chars - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = alphabet[digit.Int64()]
	}
	return string(out)
}
