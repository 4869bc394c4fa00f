package e2e

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// The conformance suite starts what it tests as a process, and tells it by messages on its standard input and output
// what to do. For it this test binary is that process: a server that is a node in front of a reference server, or a
// client whose requests go through a node to the suite's server.

const (
	roleVariable   = "GATEWAY_CONFORMANCE_ROLE"   // "server" or "client"; empty: it runs tests
	behindVariable = "GATEWAY_CONFORMANCE_BEHIND" // the program that is behind the node, or in front of it
	nodeVariable   = "GATEWAY_CONFORMANCE_NODE"   // the data plane's binary
	folderVariable = "GATEWAY_CONFORMANCE_FOLDER" // for nodes' files
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "server":
		err = conformanceServer(os.Stdin, os.Stdout)
	case "client":
		err = conformanceClient(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Fields of connectrpc.conformance.v1.
const (
	serverProtocol     = protowire.Number(1) // of ServerCompatRequest
	serverHTTPVersion  = protowire.Number(2)
	serverUseTLS       = protowire.Number(4)
	serverReceiveLimit = protowire.Number(6)
	serverCreds        = protowire.Number(7)
	credsCert          = protowire.Number(1) // of TLSCreds
	credsKey           = protowire.Number(2)
	startedHost        = protowire.Number(1) // of ServerCompatResponse
	startedPort        = protowire.Number(2)
	startedCert        = protowire.Number(3)
	clientHTTPVersion  = protowire.Number(2) // of ClientCompatRequest
	clientProtocol     = protowire.Number(3)
	clientHost         = protowire.Number(6)
	clientPort         = protowire.Number(7)

	protocolGRPC = 2
	http2        = 2
)

// field is one of a message: a number or bytes, whose last one counts.
type field struct {
	number protowire.Number
	value  uint64
	bytes  []byte
	raw    []byte // with its tag
}

// fields takes a message apart.
func fields(message []byte) ([]field, error) {
	var all []field
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		f, size := field{number: number}, protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		switch kind {
		case protowire.VarintType:
			f.value, _ = protowire.ConsumeVarint(message[n:])
		case protowire.BytesType:
			f.bytes, _ = protowire.ConsumeBytes(message[n:])
		default:
		}
		f.raw, message = message[:n+size], message[n+size:]
		all = append(all, f)
	}
	return all, nil
}

// find returns the field of a number.
func find(all []field, number protowire.Number) (found field) {
	for _, f := range all {
		if f.number == number {
			found = f
		}
	}
	return found
}

// without returns a message that lacks fields.
func without(all []field, numbers ...protowire.Number) (message []byte) {
	for _, f := range all {
		left := true
		for _, n := range numbers {
			left = left && f.number != n
		}
		if left {
			message = append(message, f.raw...)
		}
	}
	return message
}

func appendNumber(message []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(message, number, protowire.VarintType), value)
}

func appendBytes(message []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), value)
}

// receive reads a message; io.EOF: there are no more.
func receive(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint32(length[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func send(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...))
	return err
}

// child starts a program that ends with this process.
func child(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

var addresses = regexp.MustCompile(`msg="data plane ready to serve" addresses="\[http://127\.0\.0\.1:(\d+) https://127\.0\.0\.1:(\d+)\]"`)

// frontNode starts a node in front of a server and returns its ports; it is served over TLS with the certificate, if
// there is one. Calls from browsers are passed on as they are, or translated for a server of gRPC.
func frontNode(host string, port uint64, protocol string, certPEM, keyPEM []byte) (plain, secure uint64, node *exec.Cmd, err error) {
	folder, err := os.MkdirTemp(os.Getenv(folderVariable), "node")
	if err != nil {
		return 0, 0, nil, err
	}
	service := map[string]any{"name": "s", "protocol": protocol, "endpoints": []any{map[string]any{"host": host, "port": port}}}
	config := map[string]any{
		"services": []any{service},
		"routes":   []any{map[string]any{"name": "r", "path": "/*", "service_id": "s"}},
	}
	if len(certPEM) > 0 {
		config["certificates"] = []any{map[string]any{"name": "c", "default": true, "cert_pem": string(certPEM), "key_pem": string(keyPEM)}}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return 0, 0, nil, err
	}
	path := filepath.Join(folder, "gateway.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return 0, 0, nil, err
	}
	node = child(os.Getenv(nodeVariable), "--config", path, "--http-addr", "127.0.0.1:0", "--https-addr", "127.0.0.1:0", "--status-addr", "", "--data-dir", filepath.Join(folder, "data"))
	node.Stderr = nil
	out, err := node.StderrPipe()
	if err != nil {
		return 0, 0, nil, err
	}
	if err := node.Start(); err != nil {
		return 0, 0, nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(os.Stderr, lines.Text())
		if m := addresses.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(os.Stderr, out) }()
			plain, _ = strconv.ParseUint(m[1], 10, 16)
			secure, _ = strconv.ParseUint(m[2], 10, 16)
			return plain, secure, node, nil
		}
	}
	return 0, 0, nil, fmt.Errorf("the node has ended: %w", node.Wait())
}

// conformanceServer is a node before a server of gRPC without TLS, until SIGTERM.
func conformanceServer(in io.Reader, out io.Writer) error {
	message, err := receive(in)
	if err != nil {
		return err
	}
	request, err := fields(message)
	if err != nil {
		return err
	}
	creds, err := fields(find(request, serverCreds).bytes)
	if err != nil {
		return err
	}
	server := child(os.Getenv(behindVariable))
	to, err := server.StdinPipe()
	if err != nil {
		return err
	}
	from, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { _ = server.Process.Kill() }()
	behind := without(request, serverProtocol, serverHTTPVersion, serverUseTLS, serverCreds)
	if err := send(to, appendNumber(appendNumber(behind, serverProtocol, protocolGRPC), serverHTTPVersion, http2)); err != nil {
		return err
	}
	if message, err = receive(from); err != nil {
		return fmt.Errorf("the server behind the node: %w", err)
	}
	started, err := fields(message)
	if err != nil {
		return err
	}
	cert := find(creds, credsCert).bytes
	plain, secure, node, err := frontNode(string(find(started, startedHost).bytes), find(started, startedPort).value, "grpc", cert, find(creds, credsKey).bytes)
	if err != nil {
		return err
	}
	defer func() { _ = node.Process.Kill() }()
	response := appendBytes(nil, startedHost, []byte("127.0.0.1"))
	if find(request, serverUseTLS).value != 0 {
		response = appendBytes(appendNumber(response, startedPort, secure), startedCert, cert)
	} else {
		response = appendNumber(response, startedPort, plain)
	}
	if err := send(out, response); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	return nil
}

// conformanceClient passes requests to be made on to a client, and has it make them to a node before the server that
// they are for.
func conformanceClient(in io.Reader, out io.Writer) error {
	client := child(os.Getenv(behindVariable))
	client.Stdout = out
	to, err := client.StdinPipe()
	if err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		_ = client.Process.Signal(syscall.SIGTERM)
	}()
	nodes := map[string]uint64{} // the port of the node before each server
	var processes []*exec.Cmd
	defer func() {
		for _, p := range processes {
			_ = p.Process.Kill()
		}
	}()
	for {
		message, err := receive(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		request, err := fields(message)
		if err != nil {
			return err
		}
		host, port, protocol := string(find(request, clientHost).bytes), find(request, clientPort).value, "h2c"
		if find(request, clientHTTPVersion).value != http2 {
			protocol = "http"
		}
		at := net.JoinHostPort(host, strconv.FormatUint(port, 10))
		if nodes[at] == 0 {
			plain, _, node, err := frontNode(host, port, protocol, nil, nil)
			if err != nil {
				return err
			}
			nodes[at], processes = plain, append(processes, node)
		}
		message = appendNumber(appendBytes(without(request, clientHost, clientPort), clientHost, []byte("127.0.0.1")), clientPort, nodes[at])
		if err := send(to, message); err != nil {
			return err
		}
	}
	_ = to.Close()
	return client.Wait()
}
