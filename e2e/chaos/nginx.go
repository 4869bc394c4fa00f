package chaos

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// nginx is nginx with retries on other servers, and servers that are left out for a while after failures. It has no
// active checks.
type nginx struct {
	process       *process
	first, second string
}

func (*nginx) name() string { return "nginx" }

func (n *nginx) start(r *run) (string, string) {
	path, err := installed("nginx")
	if err != nil {
		r.t.Skip("nginx is not installed: make tools")
	}
	n.first, n.second = address(r.t), address(r.t)
	n.configure(r, r.endpoints)
	n.process = launch(r.t, nil, path, "-c", filepath.Join(r.dir, "nginx.conf"), "-p", r.dir)
	awaitListening(r.t, n.first)
	return n.first, n.second
}

func (n *nginx) configure(r *run, endpoints []*endpoint) {
	balance := "" // in turns
	if r.scenario.unequal {
		balance = "least_conn;"
	}
	var servers, folders strings.Builder
	for _, e := range endpoints {
		fmt.Fprintf(&servers, "    server %s max_fails=%d fail_timeout=%s;\n",
			e.address(), failuresToEject, r.ejection())
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&folders, "  %s_temp_path %s;\n", kind, filepath.Join(r.dir, kind))
	}
	write(r.t, filepath.Join(r.dir, "nginx.conf"), fmt.Sprintf(`
daemon off;
worker_processes 2;
pid %s/nginx.pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off;
%s  upstream service {
    zone service 256k;
    %s
%s    keepalive 64;
  }
  server {
    listen %s;
    listen %s http2;
    keepalive_requests 1000000;
    location / {
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout %s;
      proxy_read_timeout %s;
      proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
      proxy_next_upstream_tries %d;
    }
  }
}
`, r.dir, folders.String(), balance, servers.String(), n.first, n.second, connectTimeout, tryTimeout, tries))
}

// use replaces the servers: nginx reads its file again.
func (n *nginx) use(r *run, in []*endpoint) {
	r.t.Helper()
	n.configure(r, in)
	if err := n.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}
