package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files are PEM files that another program may renew at any time. An empty name is none.
type Files struct {
	// Certificate and Key are a certificate, with those between it and its authority, and its key: both or none.
	Certificate, Key string
	// Authorities are the certificates of those who may have issued the peer's.
	Authorities string
}

// Material is what was in files. It is immutable.
type Material struct {
	// Certificate is nil where there is no file.
	Certificate *tls.Certificate
	// Authorities is nil where there is no file.
	Authorities *x509.CertPool
}

// maxFileBytes is the largest file that is read.
const maxFileBytes = 1 << 20

// Load reads the files. Errors name the file.
func (f Files) Load() (*Material, error) {
	m := &Material{}
	if (f.Certificate == "") != (f.Key == "") {
		return nil, errors.New("a certificate and its key are both required, or none of them")
	}
	if f.Certificate != "" {
		certificate, err := read(f.Certificate)
		if err != nil {
			return nil, err
		}
		key, err := read(f.Key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s and key %s: %w", f.Certificate, f.Key, err)
		}
		m.Certificate = &pair
	}
	if f.Authorities != "" {
		text, err := read(f.Authorities)
		if err != nil {
			return nil, err
		}
		list, err := ParseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("authorities %s: %w", f.Authorities, err)
		}
		m.Authorities = x509.NewCertPool()
		for _, c := range list {
			m.Authorities.AddCert(c)
		}
	}
	return m, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%s: has %d bytes; at most %d are read", path, info.Size(), maxFileBytes)
	}
	return os.ReadFile(path)
}

// ParseCertificates reads certificates in PEM, at least one. Other blocks are an error: a key in a file of authorities
// is one that lies where it should not.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("has a block %q; certificates are required", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("has no certificate in PEM")
	}
	return list, nil
}

// lookInterval is how often files are looked at, at most.
const lookInterval = time.Second

// Reloader gives what is in files, and reads them again when they have changed. It is safe for concurrent use.
type Reloader struct {
	files Files
	log   *slog.Logger

	mu      sync.Mutex
	current *Material
	seen    [3]state
	looked  time.Time
	failed  string // what was logged last
}

// state tells one content of a file from another.
type state struct {
	size     int64
	modified time.Time
	file     os.FileInfo
}

func (s state) same(as state) bool {
	return s.size == as.size && s.modified.Equal(as.modified) &&
		(s.file == nil) == (as.file == nil) && (s.file == nil || os.SameFile(s.file, as.file))
}

// NewReloader reads the files, all of which have to be right.
func NewReloader(files Files, log *slog.Logger) (*Reloader, error) {
	r := &Reloader{files: files, log: log}
	r.seen, r.looked = r.states(), time.Now()
	var err error
	if r.current, err = files.Load(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reloader) states() (all [3]state) {
	for i, path := range []string{r.files.Certificate, r.files.Key, r.files.Authorities} {
		if info, err := os.Stat(path); path != "" && err == nil {
			all[i] = state{info.Size(), info.ModTime(), info}
		}
	}
	return all
}

// Current returns what was in the files when they were last right, at most a second ago. Files that can't be used, such
// as a certificate whose key has not been written yet, are logged and looked at again.
func (r *Reloader) Current() *Material {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < lookInterval {
		return r.current
	}
	r.looked = time.Now()
	now := r.states()
	if now[0].same(r.seen[0]) && now[1].same(r.seen[1]) && now[2].same(r.seen[2]) {
		return r.current
	}
	m, err := r.files.Load()
	if err != nil {
		if err.Error() != r.failed {
			r.failed = err.Error()
			r.log.Error("certificate files can't be used; those that were read before stay", "error", err.Error())
		}
		return r.current
	}
	r.current, r.seen, r.failed = m, now, ""
	r.log.Info("certificate files were read again", "certificate", r.files.Certificate, "authorities", r.files.Authorities)
	return r.current
}

// Server returns the settings of a server that shows the certificate as it is then: TLS 1.2 at least, with the protocols
// that ALPN may agree on. There has to be a certificate.
func (r *Reloader) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.Current().Certificate, nil },
	}
}
