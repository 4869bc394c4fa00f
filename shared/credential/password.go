package credential

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// MaxPasswordBytes is the longest password.
const MaxPasswordBytes = 256

// What new hashes cost: the first choice of OWASP's password storage cheat sheet for argon2id, about 20 ms.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
)

// The most that a hash which is given may cost, so that nobody keeps nodes busy with one verification.
const (
	maxArgonMemory  = 64 << 10 // KiB
	maxArgonTime    = 10
	maxArgonThreads = 4
	maxBcryptCost   = 12
)

// argon is a parsed PHC string of argon2id.
type argon struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

const argonPrefix = "$argon2id$"

// IsStoredPassword reports whether a text has the form of a hash that is taken as it is. It may still be one that
// CheckPassword refuses.
func IsStoredPassword(s string) bool {
	return strings.HasPrefix(s, argonPrefix) || isBcrypt(s)
}

func isBcrypt(s string) bool {
	return len(s) == 60 && s[0] == '$' && s[1] == '2' && (s[2] == 'a' || s[2] == 'b' || s[2] == 'y') && s[3] == '$'
}

// HashPassword returns the argon2id hash of a password as a PHC string, with a random salt. It takes about 20 ms.
func HashPassword(password string) string {
	var salt [argonSalt]byte
	_, _ = rand.Read(salt[:]) // it never fails
	key := argon2.IDKey([]byte(password), salt[:], argonTime, argonMemory, argonThreads, argonKey)
	return fmt.Sprintf("%sv=%d$m=%d,t=%d,p=%d$%s$%s", argonPrefix, argon2.Version, argonMemory, argonTime, argonThreads,
		base64.RawStdEncoding.EncodeToString(salt[:]), base64.RawStdEncoding.EncodeToString(key))
}

// CheckPassword says what is wrong with a password, or with a hash of one; nil: nothing. The error has neither.
func CheckPassword(s string) error {
	switch {
	case strings.HasPrefix(s, argonPrefix):
		_, err := parseArgon(s)
		return err
	case isBcrypt(s):
		cost, err := bcrypt.Cost([]byte(s))
		if err != nil {
			return errors.New("is no valid bcrypt hash")
		}
		if cost > maxBcryptCost {
			return fmt.Errorf("is a bcrypt hash of cost %d; up to %d is verified", cost, maxBcryptCost)
		}
		return nil
	case strings.HasPrefix(s, "$argon2"), strings.HasPrefix(s, "$2"), strings.HasPrefix(s, "$scrypt$"),
		strings.HasPrefix(s, "$pbkdf2"), strings.HasPrefix(s, "$1$"), strings.HasPrefix(s, "$5$"),
		strings.HasPrefix(s, "$6$"):
		return errors.New("looks like the hash of a password, of a kind that is not verified: argon2id and bcrypt are")
	case s == "" || len(s) > MaxPasswordBytes:
		return fmt.Errorf("has %d bytes: a password has 1 to %d", len(s), MaxPasswordBytes)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("has control characters, which the Basic scheme does not carry")
	}
	return nil
}

// Verify reports whether a hash is that of a password. It takes as long as the hash is made to take; one that
// CheckPassword refuses verifies nothing, at once. The time does not depend on how much of the password is right.
func Verify(hash, password string) bool {
	if len(password) > MaxPasswordBytes || !IsStoredPassword(hash) || CheckPassword(hash) != nil {
		return false
	}
	if isBcrypt(hash) {
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	}
	a, err := parseArgon(hash)
	if err != nil {
		return false
	}
	key := argon2.IDKey([]byte(password), a.salt, a.time, a.memory, a.threads, uint32(len(a.key)))
	return subtle.ConstantTimeCompare(key, a.key) == 1
}

// parseArgon reads a PHC string of argon2id, within the limits.
func parseArgon(s string) (a argon, err error) {
	bad := errors.New(`is no PHC string of argon2id such as "$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH"`)
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return a, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.time, &a.threads); n != 3 || err != nil ||
		parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", a.memory, a.time, a.threads) {
		return a, bad
	}
	if a.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil {
		return a, bad
	}
	if a.key, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil {
		return a, bad
	}
	switch {
	case a.memory < 8*uint32(a.threads) || a.memory > maxArgonMemory || a.time < 1 || a.time > maxArgonTime ||
		a.threads < 1 || a.threads > maxArgonThreads:
		return a, fmt.Errorf("is an argon2id hash of m=%d,t=%d,p=%d; up to m=%d,t=%d,p=%d is verified", a.memory, a.time,
			a.threads, maxArgonMemory, maxArgonTime, maxArgonThreads)
	case len(a.salt) < 8 || len(a.salt) > 64 || len(a.key) < 16 || len(a.key) > 64:
		return a, errors.New("is an argon2id hash whose salt has not 8 to 64 bytes, or whose hash has not 16 to 64")
	}
	return a, nil
}
