package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// rpcServer is a gRPC service with calls of all shapes.
type rpcServer struct {
	testgrpc.UnimplementedTestServiceServer
	started   chan struct{} // a call waits
	cancelled chan error    // what ended it
	deadline  time.Duration // that the last unary call had
}

func (s *rpcServer) UnaryCall(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if by, ok := ctx.Deadline(); ok {
		s.deadline = time.Until(by)
	}
	if code := codes.Code(r.GetResponseStatus().GetCode()); code != codes.OK {
		return nil, status.Error(code, r.GetResponseStatus().GetMessage())
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t"))
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: make([]byte, r.GetResponseSize())}}, nil
}

// EmptyCall waits until its caller has gone.
func (s *rpcServer) EmptyCall(ctx context.Context, _ *testgrpc.Empty) (*testgrpc.Empty, error) {
	s.started <- struct{}{}
	<-ctx.Done()
	s.cancelled <- ctx.Err()
	return nil, ctx.Err()
}

func (s *rpcServer) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
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

func (s *rpcServer) StreamingOutputCall(r *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range r.GetResponseParameters() {
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	if len(r.GetResponseParameters()) == 1 { // and goes on without another word
		<-stream.Context().Done()
	}
	return nil
}

func newRPCServer(t *testing.T) (*rpcServer, *grpc.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := &rpcServer{started: make(chan struct{}, 9), cancelled: make(chan error, 9)}, grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, s)
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(server.Stop)
	return s, server, ln.Addr().String()
}

func rpcClient(t *testing.T, address string) testgrpc.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}

func TestGRPC(t *testing.T) {
	once(t)
	s, server, address := newRPCServer(t)
	g := startWith(t, codec.DefaultLimits(),
		speaking("grpc", address, "")+
			"policies: [{name: short, timeout: 400ms}]\n---\n"+
			"routes: [{name: limited, path: /grpc.testing.TestService/EmptyCall, service_id: s, policy_id: short}]\n")
	client := rpcClient(t, g.address)
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()

	var trailer metadata.MD
	res, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 300_000, Payload: &testgrpc.Payload{Body: make([]byte, 300_000)}}, grpc.Trailer(&trailer))
	if err != nil || len(res.GetPayload().GetBody()) != 300_000 || strings.Join(trailer.Get("x-trailer"), "") != "t" {
		t.Fatalf("a unary call: %v, trailers %v", err, trailer)
	}
	if s.deadline <= 0 || s.deadline > waittest.Limit {
		t.Errorf("the service saw a deadline of %s", s.deadline)
	}
	_, err = client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: 9, Message: "no é"}})
	if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "no é" {
		t.Errorf("an error of the service's: %v", err)
	}

	both, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // an answer to each before the next is sent: nothing may be held back
		if err := both.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: []byte{byte(i)}}}); err != nil {
			t.Fatal(err)
		}
		if m, err := both.Recv(); err != nil || m.GetPayload().GetBody()[0] != byte(i) {
			t.Fatalf("message %d: %v %v", i, m, err)
		}
	}
	_ = both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end of a stream: %v", err)
	}

	// The client goes: the service is told.
	gone, leave := context.WithCancel(ctx)
	waiting, err := client.FullDuplexCall(gone)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if _, err := waiting.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("a call that was left: %v", err)
	}

	// The policy's time is over: the client is told in gRPC, and the service that nobody waits.
	_, err = client.EmptyCall(ctx, &testgrpc.Empty{})
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "UPSTREAM_TIMEOUT") {
		t.Errorf("past the policy's time: %v", err)
	}
	if err := waittest.Receive(t, "the service is told that nobody waits", s.cancelled); err == nil {
		t.Error("the service was not told")
	}

	// The service dies within a response: trailers say so.
	stream, err := client.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 10}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a stream whose service died: %v", err)
	}
	if _, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "UPSTREAM_UNAVAILABLE") {
		t.Errorf("without the service: %v", err)
	}
}

// A client that resets a call that waits for its first answer ends it at the service at once, not only when the answer
// comes.
func TestGRPCCancelReachesTheService(t *testing.T) {
	once(t)
	s, _, address := newRPCServer(t)
	g := startWith(t, codec.DefaultLimits(), respondingWithin("2m", speaking("grpc", address, "")))
	client := rpcClient(t, g.address)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := client.EmptyCall(ctx, &testgrpc.Empty{})
		done <- err
	}()
	waittest.Receive(t, "the call is at the service", s.started)
	cancel()
	waittest.Receive(t, "the call is over", done)
	waittest.Receive(t, "the service is told that its caller has gone", s.cancelled)
}

// Calls of one connection go to all endpoints.
func TestGRPCBalancing(t *testing.T) {
	once(t)
	one, _, first := newRPCServer(t)
	two, _, second := newRPCServer(t)
	_, port, _ := net.SplitHostPort(second)
	g := startWith(t, codec.DefaultLimits(),
		strings.Replace(speaking("grpc", first, ""), "endpoints: [", "endpoints: [{host: 127.0.0.1, port: "+port+"}, ", 1))
	client := rpcClient(t, g.address)
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	for range 4 {
		if _, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if one.deadline == 0 || two.deadline == 0 {
		t.Error("one endpoint was asked for everything")
	}
}

func frame(flag byte, payload []byte) []byte {
	b := append([]byte{flag}, binary.BigEndian.AppendUint32(nil, uint32(len(payload)))...)
	return append(b, payload...)
}

func TestGRPCWeb(t *testing.T) {
	_, _, address := newRPCServer(t)
	g := startWith(t, codec.DefaultLimits(),
		speaking("grpc", address, "")+
			"---\nservices: [{name: nobody, protocol: grpc}]\nroutes: [{name: nobody, path: /nobody/*, service_id: nobody}]\n")
	call := func(path, mediaType string, m proto.Message) (*http.Response, []byte, string) {
		t.Helper()
		payload, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Contains(mediaType, "-text")
		sent := frame(0, payload)
		if text {
			sent = []byte(base64.StdEncoding.EncodeToString(sent))
		}
		req, _ := http.NewRequest("POST", "http://"+g.address+path, bytes.NewReader(sent))
		req.Header.Set("Content-Type", mediaType)
		req.Header.Set("X-Grpc-Web", "1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if text && len(got) > 0 {
			var all []byte
			for len(got) > 0 { // padded pieces, one after another
				end := len(got)
				if i := bytes.IndexByte(got, '='); i >= 0 {
					for end = i; end < len(got) && got[end] == '='; end++ {
					}
				}
				piece, err := base64.StdEncoding.DecodeString(string(got[:end]))
				if err != nil {
					t.Fatal(err)
				}
				all, got = append(all, piece...), got[end:]
			}
			got = all
		}
		var message []byte
		trailers := ""
		for len(got) >= 5 {
			n := int(binary.BigEndian.Uint32(got[1:]))
			if got[0]&0x80 != 0 {
				trailers = string(got[5 : 5+n])
			} else {
				message = got[5 : 5+n]
			}
			got = got[5+n:]
		}
		return res, message, trailers
	}
	const method = "/grpc.testing.TestService/UnaryCall"
	for _, mediaType := range []string{"application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text", "application/grpc-web-text+proto"} {
		for _, size := range []int32{0, 1, 2, 1000, 200_000} {
			res, message, trailers := call(method, mediaType, &testgrpc.SimpleRequest{ResponseSize: size, Payload: &testgrpc.Payload{Body: make([]byte, size)}})
			answer := &testgrpc.SimpleResponse{}
			if err := proto.Unmarshal(message, answer); err != nil || len(answer.GetPayload().GetBody()) != int(size) || !strings.Contains(trailers, "grpc-status: 0\r\n") || !strings.Contains(trailers, "x-trailer: t\r\n") {
				t.Errorf("%s, %d bytes: %d, %d bytes, trailers %q, %v", mediaType, size, res.StatusCode, len(answer.GetPayload().GetBody()), trailers, err)
			}
			if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, strings.TrimSuffix(mediaType, "+proto")) {
				t.Errorf("%s was answered as %s", mediaType, got)
			}
		}
		_, _, trailers := call(method, mediaType, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: 5, Message: "nothing"}})
		if !strings.Contains(trailers, "grpc-status: 5\r\n") || !strings.Contains(trailers, "grpc-message: nothing\r\n") {
			t.Errorf("%s: an error of the service's: %q", mediaType, trailers)
		}
		res, _, _ := call("/nobody/M", mediaType, &testgrpc.Empty{})
		if res.StatusCode != 200 || res.Header.Get("Grpc-Status") != fmt.Sprint(int(codes.Unavailable)) || !strings.HasPrefix(res.Header.Get("Grpc-Message"), "NO_HEALTHY_ENDPOINTS") {
			t.Errorf("%s: an error of the gateway's: %d %v", mediaType, res.StatusCode, res.Header)
		}
	}
	res := g.raw("POST "+method+" HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nContent-Length: 5\r\n\r\nAAA-!", "POST")[0]
	if res.Header.Get("Grpc-Status") != fmt.Sprint(int(codes.InvalidArgument)) {
		t.Errorf("a body that is not base64: %d %v", res.StatusCode, res.Header)
	}
	http.DefaultClient.CloseIdleConnections()
}
