package follow

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"gateway.internal/shared/secretkey"
)

// KeySource says where the keys are that encrypt what the node keeps on disk. The first key encrypts, the others have
// done so before.
type KeySource struct {
	// Text has the keys; empty: File does. Whence names where it comes from.
	Text, Whence string
	// File has the keys; empty: the node makes one in its data folder.
	File string
}

// ownKeyFile is the key's name in the data folder.
const ownKeyFile = "encryption-key"

// keyring has the node's keys once they could be read. A node without any serves, and keeps nothing on disk.
type keyring struct {
	source KeySource
	dir    string
	log    *slog.Logger
	keys   []secretkey.Key // empty: they could not be read yet
}

// all returns the keys, at least one. It tries again what has failed.
func (r *keyring) all() ([]secretkey.Key, error) {
	if len(r.keys) > 0 {
		return r.keys, nil
	}
	keys, err := r.read()
	if err != nil {
		return nil, fmt.Errorf("encryption key (%s): %w", r.whence(), err)
	}
	r.keys = keys
	r.log.Info("last good files are encrypted", "key", keys[0].ID(), "from", r.whence())
	return keys, nil
}

// whence names where the keys come from.
func (r *keyring) whence() string {
	switch {
	case r.source.Text != "":
		return r.source.Whence
	case r.source.File != "":
		return r.source.File
	}
	return filepath.Join(r.dir, ownKeyFile)
}

func (r *keyring) read() ([]secretkey.Key, error) {
	if r.source.Text != "" {
		return secretkey.Parse(r.source.Text)
	}
	if r.source.File == "" {
		if err := secretkey.Write(r.whence()); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return secretkey.Load(r.whence())
}

// named returns the key of a name, and whether it is the one that encrypts. The error is errOtherKey, or why there are
// no keys.
func (r *keyring) named(id string) (key secretkey.Key, first bool, err error) {
	keys, err := r.all()
	if err != nil {
		return secretkey.Key{}, false, err
	}
	var have []string
	for i, k := range keys {
		if k.ID() == id {
			return k, i == 0, nil
		}
		have = append(have, k.ID())
	}
	return secretkey.Key{}, false, fmt.Errorf("%w: it is encrypted with %s, and %s has %v", errOtherKey, id, r.whence(),
		have)
}
