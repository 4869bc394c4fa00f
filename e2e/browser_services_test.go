package e2e

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// webSockets is a service that sends every message of a WebSocket back, in the same frames.
func webSockets(t testing.TB) (port int) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws/refused" {
			http.Error(w, "not you", http.StatusForbidden)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		if slices.Contains(strings.Split(r.Header.Get("Sec-WebSocket-Protocol"), ", "), "echo") {
			_, _ = io.WriteString(rw, "Sec-WebSocket-Protocol: echo\r\n")
		}
		_, _ = io.WriteString(rw, "\r\n")
		if rw.Flush() == nil {
			_ = echoFrames(rw)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

// The opcodes of WebSocket frames that have a meaning here (RFC 6455 section 5.2), and the bits beside them.
const (
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa

	opBits   = 0x0f
	lastBit  = 0x80
	maskBit  = 0x80
	maxFrame = 4 << 20
)

// echoFrames sends frames back until one closes the socket. On the message "goodbye" it is the first to close it, and
// on "break off" it ends without that.
func echoFrames(rw *bufio.ReadWriter) error {
	for closing := false; ; {
		first, payload, err := readFrame(rw.Reader)
		if err != nil {
			return err
		}
		op := first & opBits
		switch {
		case op == opPing:
			first = lastBit | opPong
		case op == opClose && closing, string(payload) == "break off":
			return nil
		case string(payload) == "goodbye":
			closing = true
			first, payload = lastBit|opClose, append(binary.BigEndian.AppendUint16(nil, 1001), "away"...)
		}
		if err := writeFrame(rw.Writer, first, payload); err != nil || op == opClose {
			return err
		}
	}
}

func readFrame(r *bufio.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[1]&maskBit == 0 {
		return 0, nil, fmt.Errorf("a frame of a client is not masked")
	}
	n := uint64(head[1] &^ maskBit)
	if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
		var length [8]byte
		if _, err = io.ReadFull(r, length[8-more:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(length[:])
	}
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame has %d bytes", n)
	}
	var mask [4]byte
	if _, err = io.ReadFull(r, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload, err
}

func writeFrame(w *bufio.Writer, first byte, payload []byte) error {
	head := []byte{first}
	switch n := len(payload); {
	case n < 126:
		head = append(head, byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 127), uint64(n))
	}
	_, _ = w.Write(head)
	_, _ = w.Write(payload)
	return w.Flush()
}

// told is where a service says that it has learnt that a client is gone.
type told chan struct{}

// say never waits: at the end of a test nobody asks any more.
func (c told) say() {
	select {
	case c <- struct{}{}:
	default:
	}
}

// steps is the gRPC project's test service, but that a stream of responses goes on when EmptyCall says that the last
// one has been seen.
type steps struct {
	testgrpc.TestServiceServer
	seen chan struct{}
	// gone is told of streams without a deadline that the client gave up.
	gone told
}

// EmptyCall lets a stream go on.
func (s *steps) EmptyCall(ctx context.Context, in *testgrpc.Empty) (*testgrpc.Empty, error) {
	select {
	case s.seen <- struct{}{}:
		return new(testgrpc.Empty), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// StreamingOutputCall sends a message of each size that is asked for.
func (s *steps) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for i, p := range in.GetResponseParameters() {
		if i > 0 {
			select {
			case <-s.seen:
			case <-stream.Context().Done():
				if _, limited := stream.Context().Deadline(); !limited {
					s.gone.say()
				}
				return stream.Context().Err()
			}
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func grpcSteps(t testing.TB, gone told) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, &steps{TestServiceServer: interop.NewTestServer(), seen: make(chan struct{}), gone: gone})
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(server.Stop)
	return ln.Addr().(*net.TCPAddr).Port
}

// events is a service of server-sent events: two for whoever is new, of which the second comes when somebody says that
// the first was seen, and a third for whoever comes again. It says when clients are gone for which it had a response
// that does not end.
func events(t testing.TB, gone, endless told) (port int) {
	t.Helper()
	seen := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flush := func(text string) {
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		}
		switch {
		case r.URL.Path == "/events/seen":
			select {
			case seen <- struct{}{}:
			case <-r.Context().Done():
			}
		case r.URL.Path == "/events/endless":
			flush("it begins")
			<-r.Context().Done()
			endless.say()
		case r.Header.Get("Last-Event-ID") == "":
			w.Header().Set("Content-Type", "text/event-stream")
			flush("retry: 1\n\nid: 1\ndata: one\n\n")
			select {
			case <-seen:
			case <-r.Context().Done():
			}
			flush("id: 2\nevent: named\ndata: of two\ndata: lines\n\n")
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			flush("id: 3\nevent: again\ndata: after " + r.Header.Get("Last-Event-ID") + "\n\n")
			<-r.Context().Done()
			gone.say()
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}
