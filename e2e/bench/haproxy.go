package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// haproxy is HAProxy, one thread for each core, with splicing.
type haproxy struct{}

func (haproxy) name() string { return "HAProxy" }

func (haproxy) can(setup) bool { return true }

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
  nbthread %d
  maxconn %d
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
%s`, s.cores, max(b.connections+500, 4000), global, defaults, bind, table, b.backend, ring), 0o644); err != nil {
		return nil, err
	}
	return launch(s.proxyCores(), nil, path, "-db", "-f", conf)
}
