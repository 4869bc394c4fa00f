package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
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
	// KeyBytes is the length of a key.
	KeyBytes = 32
	// MaxKeys is the most keys that there may be at a time: the one that is used and those before it.
	MaxKeys = 16
)

// Key wraps data keys. It is immutable; the zero value is no key.
type Key struct {
	id   string
	aead cipher.AEAD
}

// ID names the key, without telling anything of it: 16 hexadecimal digits.
func (k Key) ID() string { return k.id }

// ParseKeys reads keys, one a line, each 32 bytes in base64: the first is the one that wraps, and the others are those
// that did before. Empty lines, and those that begin with "#", are left out. Errors have nothing of the keys.
func ParseKeys(text string) ([]Key, error) {
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
		if err != nil || len(raw) != KeyBytes {
			return nil, fmt.Errorf("line %d is no key: it has to be %d bytes in base64, such as "+
				"\"openssl rand -base64 %[2]d\" makes", i+1, KeyBytes)
		}
		k, err := newKey(raw)
		if err != nil {
			return nil, err
		}
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

func newKey(raw []byte) (Key, error) {
	aead, err := gcm(raw)
	if err != nil {
		return Key{}, err
	}
	sum := sha256.Sum256(append([]byte("gateway: name of a key\x00"), raw...))
	return Key{hex.EncodeToString(sum[:8]), aead}, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// LoadKeys returns the keys of a text, unless it is empty, else of a file.
func LoadKeys(text, file string) ([]Key, error) {
	if text != "" {
		return ParseKeys(text)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

// WriteKey makes a key and writes it to a file, which its owner alone may read. The file is whole as soon as it is
// there; where there is one already, the error is fs.ErrExist, and nothing is written.
func WriteKey(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fs.ErrExist
	}
	raw := make([]byte, KeyBytes)
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

// wrap returns a data key as it may be kept.
func (k Key) wrap(id int64, raw []byte) []byte {
	return k.aead.Seal(nil, nil, raw, dataKeyContext(id)) //nolint:gosec // the cipher draws a nonce itself
}

func (k Key) unwrap(id int64, wrapped []byte) ([]byte, error) {
	return k.aead.Open(nil, nil, wrapped, dataKeyContext(id))
}

func dataKeyContext(id int64) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "gateway: data key %d", id)
	return b.Bytes()
}
