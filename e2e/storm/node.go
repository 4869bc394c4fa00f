package storm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// node is a data plane whose configuration is a file.
type node struct {
	cmd                   *exec.Cmd
	plain, secure, status string
	folder                string
	certPEM, keyPEM       string
	ended                 chan struct{} // closed

	mu  sync.Mutex
	log bytes.Buffer
}

func (n *node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

var readyLine = regexp.MustCompile(`msg="data plane ready to serve" addresses="\[http://(\S+) https://(\S+)\]"`)

func startNode(set Settings, s *services) (*node, error) {
	n := &node{folder: set.Folder, ended: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.status = ln.Addr().String()
	if err := errors.Join(ln.Close(), n.makeCertificate(), n.configure(s, 0)); err != nil {
		return nil, err
	}
	n.cmd = exec.Command(set.Binary, "--config", n.file(), "--http-addr", "127.0.0.1:0", "--https-addr", "127.0.0.1:0", "--status-addr", n.status,
		"--data-dir", filepath.Join(n.folder, "data"), "--profiling")
	if set.Cores > 0 {
		n.cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(set.Cores))
	}
	n.cmd.Stdout, n.cmd.Stderr = n, n
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = n.cmd.Wait()
		close(n.ended)
	}()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		n.mu.Lock()
		m := readyLine.FindStringSubmatch(n.log.String())
		n.mu.Unlock()
		if m != nil {
			n.plain, n.secure = m[1], m[2]
			return n, nil
		}
		if err := n.gone(); err != nil {
			return nil, err
		}
	}
	n.stop()
	return nil, fmt.Errorf("the node was not ready within a minute:\n%s", n.log.String())
}

func (n *node) file() string { return filepath.Join(n.folder, "gateway.yaml") }

// configure writes a configuration: with each number something is different that does not concern neighbours.
func (n *node) configure(s *services, number int) error {
	var c strings.Builder
	endpoint := func(address string) string {
		host, port, _ := net.SplitHostPort(address)
		return fmt.Sprintf("{host: %s, port: %s}", host, port)
	}
	fmt.Fprintf(&c, `services:
  - {name: one, protocol: http, endpoints: [%s], connection_pool: {idle_timeout: 3s, response_timeout: 2m}}
  - {name: two, protocol: h2c, endpoints: [%s], connection_pool: {idle_timeout: 3s, response_timeout: 2m}}
  - {name: rpc, protocol: grpc, endpoints: [%s], connection_pool: {idle_timeout: 3s, response_timeout: 2m}}
  - {name: cutting, protocol: http, endpoints: [%s], connection_pool: {idle_timeout: 3s, response_timeout: %dms}}
  - {name: changing, protocol: h2c, load_balancer_type: %s, endpoints: [%s, {host: 127.0.0.1, port: %d}], connection_pool: {idle_timeout: 3s, response_timeout: %dms}}
middleware:
  - {name: stamp, type: headers, order: 1, config: {response: {set: {X-Stamp: "%d"}}}}
pipelines:
  - {name: front, middleware_ids: [stamp]}
policies:
  - {name: short, timeout: 300ms}
  - {name: small, max_request_bytes: 20000}
routes:
  - {name: one, path: /one/*, service_id: one, pipeline_id: front}
  - {name: two, path: /two/*, service_id: two, pipeline_id: front}
  - {name: short-one, path: /one/short/*, service_id: one, policy_id: short}
  - {name: short-two, path: /two/short/*, service_id: two, policy_id: short}
  - {name: small-one, path: /one/small/*, service_id: one, policy_id: small}
  - {name: small-two, path: /two/small/*, service_id: two, policy_id: small}
  - {name: rpc, path: /grpc.testing.TestService/*, service_id: rpc}
  - {name: cutting, path: /cutting/*, service_id: cutting}
`, endpoint(s.one.address), endpoint(s.two.address), endpoint(s.rpc.address), endpoint(s.cutting.address), 200+number%5*100,
		[]string{"round_robin", "least_connections", "weighted_round_robin"}[number%3], endpoint(s.two.address), 1+number%2, 200+number%7*50, number)
	for i := range min(number%20, 20-number%20) { // one more or less each time: a node refuses to lose most at once
		fmt.Fprintf(&c, "  - {name: more-%d, path: /more/%d/%d/*, service_id: changing}\n", i, number%3, i)
	}
	fmt.Fprintf(&c, "  - {name: changing, path: /changing/*, service_id: changing}\ncertificates:\n  - {name: front, default: true, cert_pem: %q, key_pem: %q}\n", n.certPEM, n.keyPEM)
	next := n.file() + ".next"
	if err := os.WriteFile(next, []byte(c.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(next, n.file())
}

func (n *node) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	n.certPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	n.keyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return nil
}

func (n *node) stop() {
	_ = n.cmd.Process.Kill()
	<-n.ended
}

// gone returns an error when the node has ended.
func (n *node) gone() error {
	select {
	case <-n.ended:
		n.mu.Lock()
		defer n.mu.Unlock()
		text := n.log.String()
		return fmt.Errorf("the node has ended: %v\n%s", n.cmd.ProcessState, text[max(len(text)-8000, 0):])
	default:
		return nil
	}
}

// complaints returns what the node has logged that it must not.
func (n *node) complaints() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []string
	for line := range strings.Lines(n.log.String()) {
		if (strings.Contains(line, "panic") || strings.Contains(line, "configuration files refused")) && len(found) < reported {
			found = append(found, line)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return errors.New("the node has logged:\n" + strings.Join(found, ""))
}

// state is what a node holds.
type state struct {
	goroutines, files int
	memory            float64 // MiB, resident
	connections       int     // of clients
}

func (s state) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %.1f MiB, %d connections of clients", s.goroutines, s.files, s.memory, s.connections)
}

var (
	goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)
	activeTotal    = regexp.MustCompile(`(?m)^gateway_active_connections(?:{[^}]*})? (\d+)`)
)

func (n *node) get(path string) (string, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + n.status + path)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

func (n *node) state() (now state, err error) {
	number := func(path string, pattern *regexp.Regexp) (total int) {
		text, getErr := n.get(path)
		err = errors.Join(err, getErr)
		all := pattern.FindAllStringSubmatch(text, -1)
		if len(all) == 0 {
			err = errors.Join(err, fmt.Errorf("%s has no %s", path, pattern))
		}
		for _, m := range all {
			value, _ := strconv.Atoi(m[1])
			total += value
		}
		return total
	}
	now.goroutines = number("/debug/pprof/goroutine?debug=1", goroutineTotal)
	now.connections = number("/metrics", activeTotal)
	pid := n.cmd.Process.Pid
	files, readErr := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	now.files = len(files)
	statm, statErr := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if fields := strings.Fields(string(statm)); len(fields) > 1 {
		pages, _ := strconv.Atoi(fields[1])
		now.memory = float64(pages*os.Getpagesize()) / (1 << 20)
	}
	return now, errors.Join(err, readErr, statErr, n.gone())
}

// dump writes where the node's goroutines are.
func (n *node) dump(w io.Writer) {
	text, err := n.get("/debug/pprof/goroutine?debug=1")
	fmt.Fprintln(w, text, err)
}
