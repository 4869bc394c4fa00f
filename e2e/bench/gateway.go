package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// gateway is a data plane with a configuration in a file.
type gateway struct {
	called, bin string
	args        []string // further ones
	http1Only   bool     // it is only of interest over HTTP/1.1
	base        bool     // it may not know all that there is
	// without leaves out the setup's feature, to be compared with.
	without bool
}

func (g gateway) name() string { return g.called }

// withoutFeature is the name of the gateway without the setup's feature.
const withoutFeature = "gateway, without"

func (g gateway) can(s setup) bool {
	if s.feature == nil && g.without || s.feature != nil && (g.base || g.http1Only) {
		return false
	}
	return !g.http1Only || !s.http2
}

func (g gateway) launch(b *bench, s setup, address, dir string) (*process, error) {
	path := filepath.Join(g.bin, "dataplane")
	if !executable(path) {
		return nil, &missingError{path + " (make build)"}
	}
	var c strings.Builder
	host, port, _ := strings.Cut(b.backend, ":")
	var f feature
	if s.feature != nil && !g.without {
		f = *s.feature
	}
	c.WriteString(f.lists)
	fmt.Fprintf(&c, "services:\n  - {name: files, endpoints: [{host: %s, port: %s}], ", host, port)
	fmt.Fprintf(&c, "connection_pool: {max_idle_connections: 1000}%s}\n", f.service)
	c.WriteString("middleware:\n  - {name: stamp, type: headers, order: 1, config: {response: {set: {X-Gateway: \"yes\"}}}}\n")
	steps := []string{"stamp"}
	for _, m := range f.middleware {
		fmt.Fprintf(&c, "  - {name: %s, order: %d, %s}\n", m.name, len(steps)+1, m.rest)
		steps = append(steps, m.name)
	}
	fmt.Fprintf(&c, "pipelines:\n  - {name: front, middleware_ids: [%s]}\nroutes:\n", strings.Join(steps, ", "))
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
	args = append(args, g.args...)
	return launch(s.proxyCores(), []string{"GOMAXPROCS=" + strconv.Itoa(s.cores)}, path, args...)
}
