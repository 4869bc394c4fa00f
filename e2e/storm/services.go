package storm

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// services are what is behind the node. Those that neighbours use do wrong where others ask them to, by stream or by
// exchange; only cutting ends connections.
type services struct {
	one, two, rpc, cutting service
}

type service struct {
	address string
	stop    func()
}

// pattern returns n bytes that belong to an id.
func pattern(id uint64, n int) []byte {
	b := make([]byte, 0, n+8)
	for i := uint64(0); len(b) < n; i++ {
		x := (id + 1) * 0x9e3779b97f4a7c15
		x ^= (i + 1) * 0xbf58476d1ce4e5b9
		x ^= x >> 29
		b = binary.LittleEndian.AppendUint64(b, x*0x94d049bb133111eb)
	}
	return b[:n]
}

func startServices() (*services, error) {
	s := &services{}
	var err error
	start := func(handler http.Handler, h2c bool) (made service) {
		ln, listenErr := net.Listen("tcp", "127.0.0.1:0")
		if err = errors.Join(err, listenErr); err != nil {
			return made
		}
		made = service{address: ln.Addr().String()}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(!h2c)
		server.Protocols.SetUnencryptedHTTP2(h2c)
		go func() { _ = server.Serve(ln) }()
		made.stop = func() { _ = server.Close() }
		return made
	}
	s.one, s.two = start(http.HandlerFunc(answer), false), start(http.HandlerFunc(answer), true)
	s.cutting = start(http.HandlerFunc(cut), false)
	ln, listenErr := net.Listen("tcp", "127.0.0.1:0")
	if err = errors.Join(err, listenErr); err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(limitBytes))
	testgrpc.RegisterTestServiceServer(server, &rpc{})
	go func() { _ = server.Serve(ln) }()
	s.rpc = service{address: ln.Addr().String(), stop: server.Stop}
	return s, nil
}

func (s *services) stop() {
	for _, one := range []service{s.one, s.two, s.cutting, s.rpc} {
		one.stop()
	}
}

// stalls is how long services stall: longer than anybody waits.
const stalls = answerWithin + 10*time.Second

// limitBytes is the largest message and body that services take.
const limitBytes = 1 << 20

// answer serves neighbours, and does wrong where the last part of the path says so.
func answer(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseUint(r.Header.Get("X-Id"), 10, 64)
	size, _ := strconv.Atoi(r.Header.Get("X-Size"))
	w.Header().Set("X-Id", r.Header.Get("X-Id"))
	switch r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:] {
	case "stall": // does not answer; that its caller has gone it may not notice while a body is to come
		pause(r.Context(), stalls)
	case "stall-within":
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("so far"))
		w.(http.Flusher).Flush()
		pause(r.Context(), stalls)
	case "early": // answers while the body still comes
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = w.Write([]byte("too large"))
	case "reset":
		panic(http.ErrAbortHandler)
	case "reset-within":
		_, _ = w.Write(make([]byte, 30_000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "drip":
		for range 20 {
			if _, err := w.Write([]byte("x")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			pause(r.Context(), 20*time.Millisecond)
		}
	default:
		got, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if want := pattern(id, len(got)); string(got) != string(want) || r.Header.Get("X-Sent") != strconv.Itoa(len(got)) {
			w.WriteHeader(http.StatusTeapot) // somebody else's bytes
			return
		}
		_, _ = w.Write(pattern(^id, size))
	}
}

// cut ends connections in the middle of everything.
func cut(w http.ResponseWriter, r *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	texts := []string{"", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nhalf", "nonsense\r\n\r\n", "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"}
	n, _ := strconv.Atoi(r.Header.Get("X-Id"))
	_, _ = io.WriteString(conn, texts[n%len(texts)])
	if tcp, ok := conn.(*net.TCPConn); ok && n%2 == 0 {
		_ = tcp.SetLinger(0)
	}
}

// rpc is a service of gRPC.
type rpc struct {
	testgrpc.UnimplementedTestServiceServer
}

// UnaryCall sends the payload back, with the size that was asked for.
func (*rpc) UnaryCall(_ context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: r.GetPayload(), Username: strconv.Itoa(int(r.GetResponseSize()))}, nil
}

// EmptyCall never answers.
func (*rpc) EmptyCall(ctx context.Context, _ *testgrpc.Empty) (*testgrpc.Empty, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// FullDuplexCall sends every message back.
func (*rpc) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}
