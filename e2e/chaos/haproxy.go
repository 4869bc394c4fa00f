package chaos

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
)

// haproxy is HAProxy with checks, retries on other servers, and servers that are taken out for what they answer.
type haproxy struct {
	socket string
}

func (*haproxy) name() string { return "HAProxy" }

func (h *haproxy) start(r *run) (string, string) {
	path, err := installed("haproxy")
	if err != nil {
		r.t.Skip("HAProxy is not installed: make tools")
	}
	front := address(r.t)
	h.socket = filepath.Join(r.dir, "haproxy.sock")
	balance := "roundrobin"
	if r.scenario.unequal {
		balance = "leastconn"
	}
	var servers strings.Builder
	for _, e := range r.endpoints {
		fmt.Fprintf(&servers, "  server %s %s\n", e.name, e.address())
	}
	conf := filepath.Join(r.dir, "haproxy.cfg")
	write(r.t, conf, fmt.Sprintf(`
global
  stats socket %s level admin
defaults
  mode http
  timeout client 60s
  timeout connect %s
  timeout server %s
  timeout check %s
  retries %d
  retry-on all-retryable-errors
  option redispatch 1
frontend front
  bind %s
  default_backend service
backend service
  balance %s
  http-request disable-l7-retry if METH_POST
  option httpchk GET %s
  default-server check inter %s fall 2 rise 5 observe layer7 error-limit %d on-error mark-down
%s`, h.socket, connectTimeout, tryTimeout, checkEvery, tries-1, front, balance, healthPath, checkEvery, failuresToEject,
		servers.String()))
	launch(r.t, nil, path, "-db", "-f", conf)
	awaitListening(r.t, front)
	return front, front
}

// use takes servers out, and in again, through the socket that HAProxy has for that.
func (h *haproxy) use(r *run, in []*endpoint) {
	r.t.Helper()
	for _, e := range r.endpoints {
		state := "drain"
		for _, i := range in {
			if i == e {
				state = "ready"
			}
		}
		c, err := net.Dial("unix", h.socket)
		if err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintf(c, "set server service/%s state %s\n", e.name, state)
		reply, err := io.ReadAll(c)
		c.Close()
		if text := strings.TrimSpace(string(reply)); err != nil || text != "" {
			r.t.Fatalf("HAProxy says %s %v", text, err)
		}
	}
}
