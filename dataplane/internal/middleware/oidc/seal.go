package oidc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// sealer encrypts what cookies have, by AES-256-GCM with random nonces, and reads what it, or the one before, has
// encrypted.
type sealer struct{ ciphers []cipher.AEAD }

// newSealer derives the keys from secrets, the newest first, for one middleware.
func newSealer(middleware string, secrets ...string) (*sealer, error) {
	s := &sealer{}
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "gateway oidc cookies of "+middleware, 32)
		if err != nil {
			return nil, fmt.Errorf("derive the key of cookies: %w", err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		c, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		s.ciphers = append(s.ciphers, c)
	}
	if len(s.ciphers) == 0 {
		return nil, errors.New("there is no session_secret")
	}
	return s, nil
}

// seal encrypts a text for one purpose, as a cookie's value.
func (s *sealer) seal(purpose string, plain []byte) string {
	sealed := s.ciphers[0].Seal(nil, nil, plain, []byte(purpose)) //nolint:gosec // the cipher draws a nonce itself
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// open reads what seal has made for the same purpose; ok is false for anything else.
func (s *sealer) open(purpose, value string) (plain []byte, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil, false
	}
	for _, c := range s.ciphers {
		if plain, err = c.Open(nil, nil, raw, []byte(purpose)); err == nil {
			return plain, true
		}
	}
	return nil, false
}
