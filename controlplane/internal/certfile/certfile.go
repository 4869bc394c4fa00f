// Package certfile serves TLS with a certificate that is kept in files, and takes a new one over when the files change,
// without a restart. It does not obtain certificates.
package certfile

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookInterval is how often the files are looked at, at most: when somebody connects.
const lookInterval = time.Second

// Pair is a certificate with its key, in two files. It is safe for concurrent use.
type Pair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	looked time.Time
	state  [2]state // of the files that current, or a pair that could not be used, is of
	// current is what is served.
	current *tls.Certificate
}

// state tells one content of a file from the next.
type state struct {
	modified time.Time
	size     int64
}

// Open reads a certificate, with the chain that leads to it, and its key, both in PEM.
func Open(certFile, keyFile string, log *slog.Logger) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile, log: log, looked: time.Now()}
	var err error
	if p.state, err = p.look(); err != nil {
		return nil, err
	}
	if p.current, err = p.read(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Pair) look() (s [2]state, err error) {
	for i, path := range []string{p.certFile, p.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return s, err
		}
		s[i] = state{info.ModTime(), info.Size()}
	}
	return s, nil
}

func (p *Pair) read() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	return &c, nil
}

// certificate returns what is served now. Files that can't be used, as while they are being replaced, change nothing.
func (p *Pair) certificate() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.looked) < lookInterval {
		return p.current
	}
	p.looked = time.Now()
	s, err := p.look()
	if err == nil && s == p.state {
		return p.current
	}
	if err == nil {
		var c *tls.Certificate
		if c, err = p.read(); err == nil {
			p.current, p.state = c, s
			p.log.Info("the certificate was read again", "file", p.certFile, "ends", c.Leaf.NotAfter)
			return p.current
		}
	}
	if s != p.state {
		p.log.Error("the certificate can't be read again; the one before stays", "error", err.Error())
		p.state = s
	}
	return p.current
}

// Config returns the settings of a server: TLS 1.2 at least, with the protocols that ALPN may agree on.
func (p *Pair) Config(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate(), nil },
	}
}
