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
}

func (b *bench) stop() { b.service.stop() }

// missingError tells that a program is not installed.
type missingError struct{ program string }

func (e *missingError) Error() string { return e.program + " is not installed" }

func find(program string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
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
	conf := filepath.Join(b.dir, "service.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `%s
http {
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h; open_file_cache max=100; open_file_cache_valid 1h;
  %s
  # The small answer comes from memory, so that the proxies and not the service are the bottleneck.
  server {
    listen %s; default_type application/octet-stream;
    location / { root %s; rewrite ^/r[0-9]+/(.*)$ /$1 break; }
    location ~ ^/r[0-9]+/1k$ { return 200 "%s"; }
  }
}
`, nginxHead(b.dir, "service"), nginxTemp(b.dir), b.backend, b.dir, strings.Repeat("0123456789abcdef", 64)), 0o644); err != nil {
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

// peer is a kind of proxy.
type peer interface {
	name() string
	// launch starts it with a setup on an address, and writes its files to a folder.
	launch(b *bench, s setup, address, dir string) (*process, error)
}

// peers are all proxies, ours first.
func (b *bench) peers() []peer {
	all := []peer{gateway{"gateway", b.bin}}
	if b.base != "" {
		all = append(all, gateway{"gateway, base", b.base})
	}
	if !b.alone {
		all = append(all, nginxPeer{}, haproxy{})
	}
	return all
}

func (b *bench) start(p peer, s setup) (target, error) {
	port, err := freePort()
	if err != nil {
		return target{}, err
	}
	b.started++
	dir := filepath.Join(b.dir, fmt.Sprint("proxy", b.started))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return target{}, err
	}
	address := "127.0.0.1:" + port
	t := target{peer: p, url: "http://" + address + fmt.Sprintf("/r%d/", s.routes-1)}
	if s.tls {
		t.url = "https" + strings.TrimPrefix(t.url, "http")
	}
	if t.process, err = p.launch(b, s, address, dir); err != nil {
		return target{}, err
	}
	return t, t.process.await(address)
}

// gateway is a data plane with a configuration in a file.
type gateway struct{ called, bin string }

func (g gateway) name() string { return g.called }

func (g gateway) launch(b *bench, s setup, address, dir string) (*process, error) {
	path := filepath.Join(g.bin, "dataplane")
	if !executable(path) {
		return nil, &missingError{path + " (make build)"}
	}
	var c strings.Builder
	host, port, _ := strings.Cut(b.backend, ":")
	fmt.Fprintf(&c, "services:\n  - {name: files, endpoints: [{host: %s, port: %s}], connection_pool: {max_idle_connections: 1000}}\n", host, port)
	c.WriteString("middleware:\n  - {name: stamp, type: headers, order: 1, config: {response: {set: {X-Gateway: \"yes\"}}}}\npipelines:\n  - {name: front, middleware_ids: [stamp]}\nroutes:\n")
	for i := range s.routes {
		fmt.Fprintf(&c, "  - {name: r%d, path: /r%d/*, service_id: files, pipeline_id: front}\n", i, i)
	}
	if s.tls {
		fmt.Fprintf(&c, "certificates:\n  - {name: front, default: true, cert_pem: %q, key_pem: %q}\n", b.certPEM, b.keyPEM)
	}
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(c.String()), 0o644); err != nil {
		return nil, err
	}
	plain, secure := address, ""
	if s.tls {
		plain, secure = "", address
	}
	args := []string{"--config", file, "--http-addr", plain, "--https-addr", secure, "--status-addr", "127.0.0.1:0", "--data-dir", dir}
	if s.accessLog {
		args = append(args, "--access-log", filepath.Join(dir, "access.log"))
	}
	return launch(proxyCore, []string{"GOMAXPROCS=1"}, path, args...)
}

// nginxPeer is nginx as a proxy, one worker.
type nginxPeer struct{}

func (nginxPeer) name() string { return "nginx" }

func nginxHead(dir, name string) string {
	return fmt.Sprintf("daemon off; worker_processes 1; worker_rlimit_nofile 65536; pid %s/%s.pid; error_log stderr;\nevents { worker_connections 16384; }", dir, name)
}

func nginxTemp(dir string) string {
	var b strings.Builder
	for i, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "%s_temp_path %s/t%d; ", kind, dir, i)
	}
	return b.String()
}

func (nginxPeer) launch(b *bench, s setup, address, dir string) (*process, error) {
	path, err := find("nginx")
	if err != nil {
		return nil, err
	}
	log := "access_log off;"
	if s.accessLog {
		log = fmt.Sprintf("access_log %s/access.log combined buffer=64k flush=1s;", dir)
	}
	var locations strings.Builder
	for i := range s.routes {
		fmt.Fprintf(&locations, "    location /r%d/ { proxy_pass http://files; }\n", i)
	}
	listen := address + " backlog=4096"
	security := ""
	if s.tls {
		listen += " ssl"
		security = fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:10m; ssl_session_tickets on; ssl_buffer_size 16k;", b.certFile, b.keyFile)
	}
	if s.http2 {
		listen += " http2"
	}
	conf := filepath.Join(dir, "nginx.conf")
	// The buffers are larger than by default: 100 KiB then go through memory without waiting, which nearly halves their cost.
	if err := os.WriteFile(conf, fmt.Appendf(nil, `%s
http {
  %s %s keepalive_requests 1000000000; keepalive_timeout 1h; tcp_nodelay on;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Request-Id $request_id; add_header X-Gateway yes;
  proxy_buffer_size 32k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;
  upstream files { server %s; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 1h; }
  server { listen %s; %s
%s  }
}
`, nginxHead(dir, "proxy"), log, nginxTemp(dir), b.backend, listen, security, locations.String()), 0o644); err != nil {
		return nil, err
	}
	return launch(proxyCore, nil, path, "-c", conf, "-p", dir)
}

// haproxy is HAProxy, one thread, with splicing.
type haproxy struct{}

func (haproxy) name() string { return "HAProxy" }

func (haproxy) launch(b *bench, s setup, address, dir string) (*process, error) {
	path, err := find("haproxy")
	if err != nil {
		return nil, err
	}
	var routes strings.Builder
	for i := range s.routes {
		fmt.Fprintf(&routes, "/r%d/ files\n", i)
	}
	table := filepath.Join(dir, "routes.map")
	if err := os.WriteFile(table, []byte(routes.String()), 0o644); err != nil {
		return nil, err
	}
	global, defaults, ring := "", "", ""
	if s.accessLog {
		// HAProxy writes no files of its own accord: its lines go to a ring in memory, the cheapest that it has.
		global, defaults = "log ring@lines local0", "log global\n  option httplog"
		ring = "ring lines\n  format raw\n  maxlen 1200\n  size 1048576\n"
	}
	bind := address + " backlog 4096"
	if s.tls {
		bind += " ssl crt " + b.bothFile + " alpn h2,http/1.1"
	} else if s.http2 {
		bind += " proto h2"
	}
	conf := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `global
  nbthread 1
  maxconn 6000
  %s
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option splice-response
  option splice-request
  option forwardfor
  http-reuse always
  %s
frontend front
  bind %s
  unique-id-format %%[uuid]
  http-request set-header X-Request-Id %%[unique-id]
  http-response set-header X-Gateway yes
  use_backend %%[path,map_beg(%s)]
backend files
  server s1 %s pool-max-conn 1000
%s`, global, defaults, bind, table, b.backend, ring), 0o644); err != nil {
		return nil, err
	}
	return launch(proxyCore, nil, path, "-db", "-f", conf)
}
