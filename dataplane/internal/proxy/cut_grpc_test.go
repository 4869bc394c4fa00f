package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/waittest"
)

// rpcEnd is a service of gRPC that takes one call on each connection, and dies where the plan says.
type rpcEnd struct {
	t    *testing.T
	plan atomic.Pointer[cut]
	open atomic.Int64
}

// rpcAnswer returns what it says: two messages, the second in pieces, and a status.
func rpcAnswer(t *testing.T) *recorded {
	message := func(text string) []byte {
		b, err := proto.Marshal(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: []byte(text)}})
		if err != nil {
			t.Error(err)
		}
		return frame(0, b)
	}
	r := record()
	_ = r.WriteSettings()
	r.head(1, false, ":status", "200", "content-type", "application/grpc")
	r.mark("head")
	_ = r.WriteData(1, false, message("first"))
	r.mark("first")
	second := message("second")
	_ = r.WriteData(1, false, second[:3])
	_ = r.WriteData(1, false, second[3:])
	r.mark("second")
	r.head(1, true, "grpc-status", "0")
	r.mark("status")
	_ = r.WriteSettingsAck()
	return r
}

func (s *rpcEnd) serve(_ int, nc net.Conn, r *bufio.Reader) {
	s.open.Add(1)
	defer s.open.Add(-1)
	_ = nc.SetDeadline(waittest.Deadline())
	in, err := newRequests(r)
	if err != nil || in.next() == nil {
		return
	}
	plan := s.plan.Load()
	_, _ = nc.Write(rpcAnswer(s.t).b.Bytes()[:plan.offset])
	if !plan.reset {
		_ = nc.(*net.TCPConn).CloseWrite()
		for in.next() != nil {
		}
	}
	plan.die(nc)
}

// TestCutRPCServices lets a service of gRPC die at every byte of its answer. Clients of gRPC and of gRPC-Web get the
// messages that were whole, and then a status: OK only when that came from the service.
func TestCutRPCServices(t *testing.T) {
	leavesNothing(t)
	s := &rpcEnd{t: t}
	address := scripted(t, s.serve)
	g := startWith(t, codec.DefaultLimits(), speaking("grpc", address, ""))
	client := rpcClient(t, g.address)
	said := rpcAnswer(t)
	for _, reset := range []bool{false, true} {
		for offset := range offsets(said.b.Len(), 1, reset) {
			if t.Failed() {
				return
			}
			at := cut{serviceSends, offset, reset}
			s.plan.Store(&at)
			for name, call := range map[string]func() ([]string, codes.Code, error){
				"gRPC": func() ([]string, codes.Code, error) { return callRPC(client) }, "gRPC-Web": func() ([]string, codes.Code, error) { return callRPCWeb(g.address) },
			} {
				messages, code, err := call()
				waittest.Until(t, "the end of connections to the service", func() bool { return s.open.Load() == 0 }) // the next call needs one that lives
				if !judgeRPC(said, at, messages, code) || err != nil {
					t.Errorf("%s, cut at %+v of %v: %q and then %s, %v", name, at, said.marks, messages, code, err)
				}
			}
		}
	}
}

// judgeRPC tells whether a client may have got messages and a status.
func judgeRPC(said *recorded, at cut, messages []string, code codes.Code) bool {
	all := []string{"first", "second"}
	if len(messages) > len(all) || strings.Join(messages, " ") != strings.Join(all[:len(messages)], " ") {
		return false
	}
	if code == codes.OK {
		return at.offset >= said.marks["status"] && len(messages) == len(all)
	}
	whole := 0
	for _, name := range all {
		if at.offset >= said.marks[name] {
			whole++
		}
	}
	// Within a message a client of gRPC has a complaint of its own.
	within := code == codes.Internal && at.offset > said.marks["first"] && at.offset < said.marks["second"]
	return (code == codes.Unavailable || within) && (at.reset || at.offset < said.marks["status"] && len(messages) == whole)
}

// callRPC makes a call and returns the messages and the status.
func callRPC(client testgrpc.TestServiceClient) (messages []string, code codes.Code, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), waittest.Limit)
	defer cancel()
	stream, err := client.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{})
	if err != nil {
		return nil, 0, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return messages, codes.OK, nil
		}
		if err != nil {
			return messages, status.Code(err), nil
		}
		messages = append(messages, string(m.GetPayload().GetBody()))
	}
}

// callRPCWeb does the same over gRPC-Web and HTTP/1.1, where the status is the end of the body, or in the head of a
// response without one.
func callRPCWeb(address string) (messages []string, code codes.Code, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(waittest.Deadline())
	_, _ = io.WriteString(c, "POST /grpc.testing.TestService/StreamingOutputCall HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00")
	return readRPCWeb(c)
}

// readRPCWeb reads a response of gRPC-Web. One that breaks off is as good as a status that says so.
func readRPCWeb(c io.Reader) (messages []string, code codes.Code, err error) {
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		code = codes.Unavailable
	}
	if n := res.Header.Get("Grpc-Status"); n != "" {
		return nil, code, json.Unmarshal([]byte(n), &code)
	}
	for len(body) >= 5 {
		flag, size := body[0], int(binary.BigEndian.Uint32(body[1:]))
		if body = body[5:]; size > len(body) {
			break
		}
		part := body[:size]
		body = body[size:]
		if flag&0x80 != 0 {
			_, after, _ := strings.Cut(string(part), "grpc-status: ")
			n, _, _ := strings.Cut(after, "\r\n")
			return messages, code, json.Unmarshal([]byte(n), &code)
		}
		m := &testgrpc.StreamingOutputCallResponse{}
		if err := proto.Unmarshal(part, m); err != nil {
			return messages, code, err
		}
		messages = append(messages, string(m.GetPayload().GetBody()))
	}
	if code != codes.Unavailable {
		return messages, code, errors.New("there is no status")
	}
	return messages, code, nil
}
