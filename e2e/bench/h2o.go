package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// h2o is H2O, one thread for each core. It looks through the list of its paths one by one, which takes more time than
// all the rest when there are thousands: so it has just the one that is in use.
type h2o struct{}

func (h2o) name() string { return "h2o" }

func (h2o) can(s setup) bool { return !s.accessLog }

func (h2o) launch(b *bench, s setup, address, dir string) (*process, error) {
	path, err := find("h2o")
	if err != nil {
		return nil, err
	}
	security := ""
	if s.tls {
		security = fmt.Sprintf("\n  ssl: {certificate-file: %s, key-file: %s}", b.certFile, b.keyFile)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user: root\n" // or it becomes nobody, whom this folder is closed to
	}
	conf := filepath.Join(dir, "h2o.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `%snum-threads: %d
max-connections: 16384
pid-file: %s/pid
error-log: /dev/stderr
listen:
  host: 127.0.0.1
  port: %s%s
http1-request-timeout: 3600
http2-idle-timeout: 3600
proxy.timeout.keepalive: 3600000
proxy.preserve-host: ON
header.set: "X-Gateway: yes"
hosts:
  default:
    paths:
      "/r%d/":
        proxy.reverse.url: "http://%s/r%[6]d/"
`, user, s.cores, dir, address[len("127.0.0.1:"):], security, s.routes-1, b.backend), 0o644); err != nil {
		return nil, err
	}
	return launch(s.proxyCores(), nil, path, "-m", "worker", "-c", conf)
}
