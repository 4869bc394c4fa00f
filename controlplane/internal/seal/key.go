package seal

import (
	"fmt"

	"gateway.internal/shared/secretkey"
)

// wrap returns a data key as it may be kept.
func wrap(by secretkey.Key, id int64, raw []byte) ([]byte, error) {
	aead, err := by.AEAD()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, raw, dataKeyContext(id)), nil //nolint:gosec // the cipher draws a nonce itself
}

func unwrap(by secretkey.Key, id int64, wrapped []byte) ([]byte, error) {
	aead, err := by.AEAD()
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, wrapped, dataKeyContext(id))
}

func dataKeyContext(id int64) []byte { return fmt.Appendf(nil, "gateway: data key %d", id) }
