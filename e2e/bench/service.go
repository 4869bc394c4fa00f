package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// bench is one run.
type bench struct {
	options
	ctx     context.Context
	dir     string
	service *process
	// backend is the service's address.
	backend string
	// The certificate that proxies show, and the files that it is in: certificate, key, and both.
	certPEM, keyPEM             string
	certFile, keyFile, bothFile string
	started                     int
	// leftOut are the peers that are not installed, by name.
	leftOut map[string]bool
	results []result
}

func (b *bench) stop() { b.service.stop() }

// missingError tells that a program is not installed.
type missingError struct{ program string }

func (e *missingError) Error() string { return e.program + " is not installed" }

func find(program string) (string, error) {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin")
	if cache, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(cache, "gateway-tools"))
	}
	for _, dir := range dirs {
		if path := filepath.Join(dir, program); executable(path) {
			return path, nil
		}
	}
	return "", &missingError{program}
}

func executable(path string) bool {
	s, err := os.Stat(path)
	return err == nil && !s.IsDir() && s.Mode()&0o111 != 0
}

// startService starts what stands behind the proxies: nginx, which serves files.
func (b *bench) startService() error {
	for _, program := range []string{"wrk", "h2load", "taskset"} {
		if _, err := exec.LookPath(program); err != nil {
			return &missingError{program}
		}
	}
	path, err := find("nginx")
	if err != nil {
		return err
	}
	for name, size := range map[string]int{"100k": 100 << 10, "10m": 10 << 20} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(strings.Repeat("0123456789abcdef", size/16)), 0o644); err != nil {
			return err
		}
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	b.backend = "127.0.0.1:" + port
	var small strings.Builder
	for _, s := range []setup{single, many} {
		fmt.Fprintf(&small, "    location = %s1k { return 200 \"%s\"; }\n", s.path(), strings.Repeat("0123456789abcdef", 64))
	}
	conf := filepath.Join(b.dir, "service.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `%s
http {
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h; open_file_cache max=100; open_file_cache_valid 1h;
  %s
  # The small answer comes from memory, and its path is not looked for by an expression, so that the proxies and not the service are the bottleneck.
  server {
    listen %s; default_type application/octet-stream;
    location / { root %s; rewrite ^/r[0-9]+/(.*)$ /$1 break; }
%s  }
}
`, nginxHead(b.dir, "service", 1), nginxTemp(b.dir), b.backend, b.dir, small.String()), 0o644); err != nil {
		return err
	}
	if b.service, err = launch(otherCores(), nil, path, "-c", conf, "-p", b.dir); err != nil {
		return err
	}
	return b.service.await(b.backend)
}

// makeCertificate makes the certificate that all proxies show: P-256, as most sites have today.
func (b *bench) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b.certPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	b.keyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	b.certFile, b.keyFile, b.bothFile = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem"), filepath.Join(b.dir, "both.pem")
	for file, text := range map[string]string{b.certFile: b.certPEM, b.keyFile: b.keyPEM, b.bothFile: b.certPEM + b.keyPEM} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
