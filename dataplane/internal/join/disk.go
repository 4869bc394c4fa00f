package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"gateway.internal/dataplane/internal/datafile"
)

// Names in the data folder. One file has key, certificate and authorities, so that they always belong together.
const (
	identityFile = "identity.pem"
	pendingFile  = "enrolment-key.pem"
)

// authorityBlock is the type of PEM blocks of the authorities of control planes.
const authorityBlock = "AUTHORITY CERTIFICATE"

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// assemble puts together what a control plane has given for a key.
func assemble(key *ecdsa.PrivateKey, chain, authorities [][]byte) (*held, error) {
	if len(chain) == 0 || len(authorities) == 0 {
		return nil, errNotOurs
	}
	has := &held{certificate: &tls.Certificate{Certificate: chain, PrivateKey: key}, authorities: x509.NewCertPool()}
	var err error
	if has.leaf, err = x509.ParseCertificate(chain[0]); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if !key.PublicKey.Equal(has.leaf.PublicKey) {
		return nil, errNotOurs
	}
	for _, der := range authorities {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
		has.authorities.AddCert(c)
	}
	return has, nil
}

func save(dir string, has *held, authorities [][]byte) error {
	key, err := x509.MarshalPKCS8PrivateKey(has.certificate.PrivateKey)
	if err != nil {
		return err
	}
	blocks := []*pem.Block{{Type: "PRIVATE KEY", Bytes: key}}
	for _, der := range has.certificate.Certificate {
		blocks = append(blocks, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	for _, der := range authorities {
		blocks = append(blocks, &pem.Block{Type: authorityBlock, Bytes: der})
	}
	if err := write(dir, identityFile, blocks...); err != nil {
		return fmt.Errorf("keep the node's certificate: %w", err)
	}
	return nil
}

func write(dir, name string, blocks ...*pem.Block) error {
	f, err := datafile.Replace(dir, name, func(w io.Writer) error {
		for _, b := range blocks {
			if err := pem.Encode(w, b); err != nil {
				return err
			}
		}
		return nil
	})
	if f != nil {
		_ = f.Close()
	}
	return err
}

// load returns what is in the data folder; nil: nothing is.
func load(dir string) (*held, error) {
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there need not be one
	}
	if err != nil {
		return nil, err
	}
	var key *ecdsa.PrivateKey
	var chain, authorities [][]byte
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		switch block.Type {
		case "PRIVATE KEY":
			if key, err = parseKey(block.Bytes); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		case "CERTIFICATE":
			chain = append(chain, block.Bytes)
		case authorityBlock:
			authorities = append(authorities, block.Bytes)
		}
	}
	if key == nil {
		return nil, fmt.Errorf("%s has no key", path)
	}
	has, err := assemble(key, chain, authorities)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return has, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if key, ok := parsed.(*ecdsa.PrivateKey); ok && err == nil {
		return key, nil
	}
	return nil, errors.New("its key does not parse")
}

// pendingKey returns the key of the enrolment that is under way.
func pendingKey(dir string) (*ecdsa.PrivateKey, error) {
	if text, err := os.ReadFile(filepath.Join(dir, pendingFile)); err == nil {
		if block, _ := pem.Decode(text); block != nil {
			if key, err := parseKey(block.Bytes); err == nil {
				return key, nil
			}
		}
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := write(dir, pendingFile, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return nil, fmt.Errorf("keep the node's key: %w", err)
	}
	return key, nil
}

func forgetPending(dir string) { _ = os.Remove(filepath.Join(dir, pendingFile)) }
