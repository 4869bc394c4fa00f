package storm

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// A neighbour sends one request after the other and looks at every byte of the responses. Those of HTTP/2 and gRPC
// share one connection with the clients that misbehave on it; those of HTTP/1.1 have theirs, which node serves in a
// loop when it has seen some requests, and share the connections to services.

// shared is a client of HTTP/2, over TLS or not, with one connection, and what closes all that it has had.
func (s *storm) shared(secure bool) (client *http.Client, end func()) {
	var mu sync.Mutex
	var conns []net.Conn
	t := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxConnsPerHost: 1, DisableCompression: true}
	t.Protocols.SetHTTP2(secure)
	t.Protocols.SetUnencryptedHTTP2(!secure)
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
		return c, err
	}
	return &http.Client{Transport: t}, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

func (s *storm) url(secure bool) string {
	if secure {
		return "https://" + s.node.secure
	}
	return "http://" + s.node.plain
}

// neighbours returns them all, with those that misbehave on their connections if there is a storm; each of the
// functions returns when ctx is over and its last request is answered.
func (s *storm) neighbours(storm bool) (all []func(context.Context)) {
	for _, secure := range []bool{false, true} {
		for _, service := range []string{"one", "two"} {
			for range 2 {
				all = append(all, func(ctx context.Context) {
					t := &http.Transport{MaxConnsPerHost: 1, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
					defer t.CloseIdleConnections()
					s.ask(ctx, &http.Client{Transport: t}, "HTTP/1.1", s.url(secure)+"/"+service+"/")
				})
			}
		}
		all = append(all, func(ctx context.Context) { s.together(ctx, secure, storm) }, func(ctx context.Context) { s.calls(ctx, secure, storm) })
	}
	return all
}

// ask sends requests of all sizes until ctx is over.
func (s *storm) ask(ctx context.Context, client *http.Client, protocol, url string) {
	for ctx.Err() == nil {
		id := s.ids.Add(1)
		sent, size := sizes(), sizes()
		if rand.N(2) == 0 {
			sent = 0
		}
		if err := exchange(client, url, id, sent, size, rand.N(3) == 0); err != nil {
			s.fail("%s to %s, %d bytes there and %d back: %v", protocol, url, sent, size, err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		s.requests.Add(1)
	}
}

// sizes returns the size of a body: mostly small, now and then large.
func sizes() int {
	switch n := rand.N(100); {
	case n < 70:
		return rand.N(2000)
	case n < 97:
		return rand.N(100_000)
	default:
		return rand.N(limitBytes)
	}
}

// exchange sends one request and returns what is wrong with its response.
func exchange(client *http.Client, url string, id uint64, sent, size int, chunked bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if sent > 0 {
		method, body = http.MethodPost, bytes.NewReader(pattern(id, sent))
		if chunked {
			body = io.MultiReader(body)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Id", strconv.FormatUint(id, 10))
	req.Header.Set("X-Sent", strconv.Itoa(sent))
	req.Header.Set("X-Size", strconv.Itoa(size))
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return fmt.Errorf("status %d, after %d bytes: %w", res.StatusCode, len(got), err)
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d: %.300q", res.StatusCode, got)
	case res.Header.Get("X-Id") != req.Header.Get("X-Id"):
		return fmt.Errorf("the response to another request, of id %s instead of %d", res.Header.Get("X-Id"), id)
	case !bytes.Equal(got, pattern(^id, size)):
		return fmt.Errorf("%d bytes that are not the response's", len(got))
	}
	return nil
}

// together has neighbours and others on one connection of HTTP/2.
func (s *storm) together(ctx context.Context, secure, storm bool) {
	client, end := s.shared(secure)
	defer end()
	var all []func()
	for _, service := range []string{"one", "two"} {
		for range 2 {
			all = append(all, func() { s.ask(ctx, client, "HTTP/2", s.url(secure)+"/"+service+"/") })
		}
	}
	s.beside(storm, all, func(ctx context.Context) { s.misbehave(ctx, client, s.url(secure)) })
}

// beside has neighbours at it and, until the last of them is done, those that misbehave.
func (s *storm) beside(storm bool, neighbours []func(), others func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if storm {
			others(ctx)
		}
	}()
	concurrently(neighbours...)
	stop()
	<-done
}

// calls has neighbours and others on one connection of gRPC.
func (s *storm) calls(ctx context.Context, secure, storm bool) {
	creds, address := insecure.NewCredentials(), s.node.plain
	if secure {
		creds, address = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), s.node.secure
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*limitBytes)))
	if err != nil {
		s.fail("gRPC: %v", err)
		return
	}
	defer func() { _ = conn.Close() }()
	client := testgrpc.NewTestServiceClient(conn)
	one := func() {
		for ctx.Err() == nil {
			if err := s.call(client); err != nil {
				s.fail("gRPC, TLS %v: %v", secure, err)
				pause(ctx, 100*time.Millisecond)
				continue
			}
			s.requests.Add(1)
		}
	}
	all := []func(){one, one, func() {
		for ctx.Err() == nil {
			if err := s.talk(client); err != nil {
				s.fail("gRPC, both ways, TLS %v: %v", secure, err)
				pause(ctx, 100*time.Millisecond)
				continue
			}
			s.requests.Add(1)
		}
	}}
	s.beside(storm, all, func(ctx context.Context) { s.misbehaveInCalls(ctx, client) })
}

// call makes a unary call.
func (s *storm) call(client testgrpc.TestServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	id := s.ids.Add(1)
	sent := pattern(id, min(sizes(), limitBytes-100))
	res, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: sent}})
	if err == nil && !bytes.Equal(res.GetPayload().GetBody(), sent) {
		err = errors.New("another response")
	}
	return err
}

// talk has a call in which both sides say something in turn.
func (s *storm) talk(client testgrpc.TestServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	both, err := client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for i := range 5 {
		sent := pattern(s.ids.Add(1), sizes()/2)
		if err := both.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: sent}}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		m, err := both.Recv()
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if !bytes.Equal(m.GetPayload().GetBody(), sent) {
			return fmt.Errorf("message %d is another one", i)
		}
	}
	if err := both.CloseSend(); err != nil {
		return err
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the end: %w", err)
	}
	return nil
}
