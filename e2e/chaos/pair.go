package chaos

import (
	"fmt"
	"path/filepath"
	"syscall"
)

// pair is two nodes behind HAProxy, which balances over those that are ready and sends nothing twice.
type pair struct {
	nodes [2]struct {
		front, status string
		process       *process
	}
}

func (*pair) name() string { return "gateway" }

// noticedWithin is the nodes' --shutdown-delay: the time that HAProxy has to see that one is not ready.
const noticedWithin = "3s"

func (p *pair) start(r *run) (string, string) {
	path, err := installed("haproxy")
	if err != nil {
		r.t.Skip("HAProxy is not installed: make tools")
	}
	config := filepath.Join(r.dir, "config")
	write(r.t, filepath.Join(config, "gateway.yaml"), r.gatewayConfig(fixed(r.endpoints)))
	servers := func(proto string) (text string) {
		for i, n := range p.nodes {
			text += fmt.Sprintf("  server n%d %s %s check port %s\n", i, n.front, proto, n.status[len("127.0.0.1:"):])
		}
		return text
	}
	for i := range p.nodes {
		p.nodes[i].front, p.nodes[i].status = address(r.t), address(r.t)
		p.launch(r, i)
	}
	http1, http2 := address(r.t), address(r.t)
	conf := filepath.Join(r.dir, "haproxy.cfg")
	write(r.t, conf, fmt.Sprintf(`
defaults
  mode http
  timeout client 60s
  timeout connect 1s
  timeout server 60s
  timeout check 1s
  retries 0
  option httpchk GET /readyz
  default-server inter 100ms fall 2 rise 1 check-proto h1
listen first
  bind %s
%slisten second
  bind %s
%s`, http1, servers(""), http2, servers("proto h2")))
	launch(r.t, nil, path, "-db", "-f", conf)
	awaitListening(r.t, http1)
	awaitListening(r.t, http2)
	return http1, http2
}

func (p *pair) launch(r *run, i int) {
	r.t.Helper()
	n := &p.nodes[i]
	n.process = launch(r.t, nil, binary(r.t, "dataplane"), "--config", filepath.Join(r.dir, "config"),
		"--http-addr", n.front, "--https-addr", "", "--status-addr", n.status,
		"--data-dir", filepath.Join(r.dir, fmt.Sprint("node", i)),
		"--shutdown-delay", noticedWithin)
	awaitStatus(r.t, "http://"+n.status+"/readyz", 200)
}

// terminate ends a node with SIGTERM, and returns when it has ended.
func (p *pair) terminate(r *run, i int) {
	r.t.Helper()
	c := p.nodes[i].process.cmd
	r.must(c.Process.Signal(syscall.SIGTERM))
	if err := c.Wait(); err != nil {
		r.t.Errorf("the node has ended with %v", err)
	}
}
