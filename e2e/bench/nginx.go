package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// nginxPeer is nginx as a proxy, one worker for each core.
type nginxPeer struct{}

func (nginxPeer) name() string { return "nginx" }

func (nginxPeer) can(setup) bool { return true }

func nginxHead(dir, name string, workers int) string {
	return fmt.Sprintf("daemon off; worker_processes %d; worker_rlimit_nofile 65536; pid %s/%s.pid; error_log stderr;\nevents { worker_connections 16384; }", workers, dir, name)
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
	if s.cores > 1 {
		listen += " reuseport" // or one worker takes nearly all connections
	}
	security := ""
	if s.tls {
		listen += " ssl"
		security = fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:10m; ssl_session_tickets on; ssl_buffer_size 16k;", b.certFile, b.keyFile)
	}
	if s.http2 {
		listen += " http2"
	}
	conf := filepath.Join(dir, "nginx.conf")
	// The buffers are larger than by default: 100 KiB then go through memory without waiting, which nearly halves their
	// cost.
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
`, nginxHead(dir, "proxy", s.cores), log, nginxTemp(dir), b.backend, listen, security, locations.String()), 0o644); err != nil {
		return nil, err
	}
	return launch(s.proxyCores(), nil, path, "-c", conf, "-p", dir)
}
