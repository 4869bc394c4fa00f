// Package secretkey reads and makes the keys that encrypt what is kept on disk, and gives ciphers of them: AES-256-GCM
// (NIST SP 800-38D). It does not know what is encrypted.
package secretkey

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// Bytes is the length of a key.
	Bytes = 32
	// MaxKeys is the most keys that there may be at a time: the one that is used and those before it.
	MaxKeys = 16
)

// Env is the environment variable that has keys, in place of a file.
const Env = "GATEWAY_ENCRYPTION_KEY"

// Key is a key. It is immutable; the zero value is no key. It prints as its name at most.
type Key struct {
	id  string
	raw *[Bytes]byte // a pointer, so that formatting a struct that has a Key doesn't print it
}

// ID names the key, without telling anything of it: 16 hexadecimal digits.
func (k Key) ID() string { return k.id }

// String implements fmt.Stringer.
func (k Key) String() string { return k.id }

// Parse reads keys, one a line, each 32 bytes in base64: the first is the one that encrypts, and the others are those
// that did before. Empty lines, and those that begin with "#", are left out. Errors have nothing of the keys.
func Parse(text string) ([]Key, error) {
	var keys []Key
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			raw, err = base64.RawURLEncoding.DecodeString(line)
		}
		if err != nil || len(raw) != Bytes {
			return nil, fmt.Errorf("line %d is no key: it has to be %d bytes in base64, such as "+
				"\"openssl rand -base64 %[2]d\" makes", i+1, Bytes)
		}
		k := newKey([Bytes]byte(raw))
		for _, other := range keys {
			if other.id == k.id {
				return nil, fmt.Errorf("line %d has the key %s again", i+1, k.id)
			}
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, errors.New("there is no key")
	case len(keys) > MaxKeys:
		return nil, fmt.Errorf("there are %d keys; at most %d are read", len(keys), MaxKeys)
	}
	return keys, nil
}

func newKey(raw [Bytes]byte) Key {
	sum := sha256.Sum256(append([]byte("gateway: name of a key\x00"), raw[:]...))
	return Key{hex.EncodeToString(sum[:8]), &raw}
}

// Load returns the keys of a file.
func Load(file string) ([]Key, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := Parse(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

// Write makes a key and writes it to a file, which its owner alone may read. The file is whole as soon as it is there;
// where there is one already, the error is fs.ErrExist, and nothing is written.
func Write(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fs.ErrExist
	}
	raw := make([]byte, Bytes)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it has its other name, or is of no use
	defer f.Close()
	if _, err := f.WriteString(base64.StdEncoding.EncodeToString(raw) + "\n"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Link(f.Name(), file)
}

// AEAD returns a cipher of the key itself, which draws a nonce for each message and puts it before.
func (k Key) AEAD() (cipher.AEAD, error) { return GCM(k.raw[:]) }

// GCM returns a cipher of 32 bytes, which draws a nonce for each message and puts it before.
func GCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Derive returns a cipher of a key that is made of this one, a salt and what it is for (HKDF-SHA256, RFC 5869). Its
// nonces are the caller's to draw, at random.
func (k Key) Derive(salt []byte, purpose string) (cipher.AEAD, error) {
	raw, err := hkdf.Key(sha256.New, k.raw[:], salt, purpose, Bytes)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
