package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The ways in which a backend answers.
const (
	answers       = "answers"        // 200 with what was sent
	hangs         = "hangs"          // takes the request and never answers, health checks neither
	cuts          = "cuts"           // resets the connection or the stream once it has read the request
	cutsResponses = "cuts-responses" // does that once it has sent the head of the response
	errs          = "errs"           // 500, though health checks pass
)

const (
	// tokenField is the request's header field whose value a GET is answered with. A POST is answered with its body.
	tokenField = "X-Token"
	// endpointField is the response's header field that names the backend.
	endpointField = "X-Endpoint"
	healthPath    = "/healthz"
)

// backend is one endpoint of a service, in a process of its own.
type backend struct {
	name, address string
	latency       atomic.Int64 // nanoseconds
	requests      atomic.Int64 // all but health checks

	mu      sync.Mutex
	mode    string
	changed chan struct{} // closed when the mode changes
	server  *http.Server  // nil: nothing listens
	hole    []io.Closer   // what makes the address a black hole
}

// Backend is the main function of a backend's process. It does what it is told, one command a line, each of which it
// answers with a line; "listen" has it serve at its address.
func Backend(name, address string, commands io.Reader, replies io.Writer) error {
	b := &backend{name: name, address: address, mode: answers, changed: make(chan struct{})}
	lines := bufio.NewScanner(commands)
	for lines.Scan() {
		reply, err := b.do(lines.Text())
		if err != nil {
			reply = "error: " + err.Error()
		}
		fmt.Fprintln(replies, reply)
	}
	return lines.Err()
}

func (b *backend) do(command string) (reply string, err error) {
	verb, argument, _ := strings.Cut(command, " ")
	switch verb {
	case answers, hangs, cuts, cutsResponses, errs:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.mode = verb
		close(b.changed)
		b.changed = make(chan struct{})
	case "latency":
		d, err := time.ParseDuration(argument)
		if err != nil {
			return "", err
		}
		b.latency.Store(int64(d))
	case "requests":
		return fmt.Sprint(b.requests.Load()), nil
	case "refuse":
		err = b.refuse()
	case "blackhole":
		if err = b.refuse(); err == nil {
			err = b.swallow()
		}
	case "listen":
		err = b.listen()
	default:
		err = fmt.Errorf("there is no command %q", command)
	}
	return "done", err
}

// listen serves on the address, over HTTP/1.1 and HTTP/2 without TLS.
func (b *backend) listen() error {
	for _, c := range b.hole {
		_ = c.Close()
	}
	b.hole = nil
	ln, err := net.Listen("tcp", b.address)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: b, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	b.server = s
	go func() { _ = s.Serve(ln) }()
	return nil
}

// refuse listens no more. What is under way is answered, and idle connections are closed.
func (b *backend) refuse() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return b.server.Shutdown(ctx)
}

// swallow listens with a queue that is full, so that the kernel drops every SYN: who connects hears nothing at all.
func (b *backend) swallow() error {
	address, err := net.ResolveTCPAddr("tcp4", b.address)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	b.hole = append(b.hole, closer(fd))
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	at := &syscall.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}
	if err := syscall.Bind(fd, at); err != nil {
		return err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return err
	}
	full := false
	for n := 0; !full && n < 100; n++ {
		c, err := net.DialTimeout("tcp4", b.address, 100*time.Millisecond)
		if full = err != nil; !full {
			b.hole = append(b.hole, c)
		}
	}
	if !full {
		return fmt.Errorf("the queue of %s takes 100 connections", b.address)
	}
	return nil
}

type closer int

func (fd closer) Close() error { return syscall.Close(int(fd)) }

// ServeHTTP answers in the way that the backend was told to.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	mode, changed := b.mode, b.changed
	b.mu.Unlock()
	check := r.URL.Path == healthPath
	if !check {
		b.requests.Add(1)
	}
	text := []byte(r.Header.Get(tokenField))
	if r.Method != http.MethodGet {
		var err error
		if text, err = io.ReadAll(r.Body); err != nil {
			return
		}
	}
	if d := time.Duration(b.latency.Load()); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		<-timer.C
	}
	w.Header().Set(endpointField, b.name)
	switch mode {
	case hangs:
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case cuts:
		reset(w)
	case cutsResponses:
		w.Header().Set("Content-Length", "100000")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		reset(w)
	case errs:
		if !check {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
	_, _ = w.Write(text)
}

// reset ends a connection over HTTP/1.1 with RST, and over HTTP/2 the stream.
func reset(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	panic(http.ErrAbortHandler)
}
