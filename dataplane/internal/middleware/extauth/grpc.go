package extauth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/subrequest"
	authv3 "gateway.internal/proto/gen/envoy/service/auth/v3"
)

// checkPath is the method that is called.
const checkPath = "/envoy.service.auth.v3.Authorization/Check"

// framePrefix is the length of what comes before a message of gRPC: whether it is compressed, and its length.
const framePrefix = 5

// askGRPC asks the service by a call, whose response message is the answer.
func (s *step) askGRPC(ctx context.Context, x *exchange.Exchange, body []byte) (*answer, error) {
	framed, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, framePrefix), s.checkOf(x, body))
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(framed[1:], uint32(len(framed)-framePrefix))
	r := &subrequest.Request{
		Method: "POST", Path: checkPath, Body: framed, RPC: true, Repeatable: true, MaxResponseBytes: maxAnswerBytes,
	}
	r.Header.Set("Content-Type", "application/grpc")
	res, err := s.service.Do(ctx, x, r)
	var m *authv3.CheckResponse
	if err == nil {
		m, err = messageOf(res)
	}
	switch {
	case err == nil:
		a, err := s.decisionOf(m)
		if err == nil {
			a.bytes = len(res.Body)
		}
		return a, err
	case res != nil && res.Status == 200 && refuses(res.Body) && !x.ClientGone() && !x.Refused():
		return &answer{status: 403, cut: true}, nil
	}
	return nil, err
}

// refuses reports whether a message that can't be read as a whole says all the same that the request is refused: it is
// too long, breaks off, or has a text that is none. The status is its first field.
func refuses(framed []byte) bool {
	if len(framed) < framePrefix || framed[0] != 0 {
		return false
	}
	refused := false
	fields(framed[framePrefix:], func(field protowire.Number, value []byte, _ uint64) {
		if field == 1 {
			fields(value, func(field protowire.Number, _ []byte, code uint64) {
				refused = refused || field == 1 && int32(code) != 0
			})
		}
	})
	return refused
}

// fields tells of a message's fields until it ends or breaks off: the bytes of those that have some, of which the last
// may lack some, and the numbers of others.
func fields(message []byte, tell func(field protowire.Number, value []byte, number uint64)) {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		switch kind {
		case protowire.VarintType:
			number, n := protowire.ConsumeVarint(message)
			if n < 0 {
				return
			}
			tell(field, nil, number)
			message = message[n:]
		case protowire.BytesType:
			length, n := protowire.ConsumeVarint(message)
			if n < 0 {
				return
			}
			message = message[n:]
			length = min(length, uint64(len(message)))
			tell(field, message[:length], 0)
			message = message[length:]
		default:
			n := protowire.ConsumeFieldValue(field, kind, message)
			if n < 0 {
				return
			}
			message = message[n:]
		}
	}
}

// messageOf reads the response of a call.
func messageOf(res *subrequest.Response) (*authv3.CheckResponse, error) {
	if res.Status != 200 {
		return nil, fmt.Errorf("the service answered %d, which is no response of gRPC", res.Status)
	}
	from := &res.Trailer
	code, said := from.Lookup("grpc-status")
	if !said { // a response of trailers only
		from = &res.Header
		code, said = from.Lookup("grpc-status")
	}
	switch b := res.Body; {
	case !said:
		return nil, errors.New("the service's response has no grpc-status")
	case code != "0":
		return nil, fmt.Errorf("the service answered with the status %s of gRPC: %s", code, from.Get("grpc-message"))
	case len(b) < framePrefix || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-framePrefix):
		return nil, errors.New("the service's response is not one message that is not compressed")
	}
	m := &authv3.CheckResponse{}
	if err := proto.Unmarshal(res.Body[framePrefix:], m); err != nil {
		return nil, fmt.Errorf("the service's response is no CheckResponse: %w", err)
	}
	return m, nil
}

// checkOf says what is known of a request.
func (s *step) checkOf(x *exchange.Exchange, body []byte) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Id: text(x.ID), Method: text(x.Request.Method), Headers: s.fieldsOf(x), Path: text(target(x)),
		Host: text(x.Request.Host), Scheme: x.Scheme, Size: x.Request.ContentLength, Protocol: x.Request.Version.String(),
	}
	if body != nil {
		http.Size = int64(len(body))
	}
	if utf8.Valid(body) {
		http.Body = string(body)
	} else {
		http.RawBody = body
	}
	a := &authv3.AttributeContext{
		Source:            &authv3.AttributeContext_Peer{Address: addressOf(x.Client), Principal: principalOf(x.TLS)},
		Destination:       &authv3.AttributeContext_Peer{},
		Request:           &authv3.AttributeContext_Request{Time: timestamppb.New(x.Start), Http: http},
		ContextExtensions: s.extensions,
	}
	if x.Peer != nil {
		a.Destination.Address = addressOf(x.Peer.Local)
	}
	if x.TLS != nil {
		a.TlsSession = &authv3.AttributeContext_TLSSession{Sni: text(x.TLS.ServerName)}
	}
	return &authv3.CheckRequest{Attributes: a}
}

// fieldsOf returns the request's fields that the service is told: all of them, unless some are named. What the gateway
// knows better than the client it says itself.
func (s *step) fieldsOf(x *exchange.Exchange) map[string]string {
	req := &x.Request
	fields := make(map[string]string, req.Header.Len()+8)
	for name, value := range req.Header.All() {
		known := exchange.KnownName(name)
		if known.HopByHop() || known == exchange.Forwarded || len(s.sent) > 0 && !s.sends(name) {
			continue
		}
		name = text(strings.ToLower(name))
		if before, several := fields[name]; several {
			value = before + "," + value
		}
		fields[name] = text(value)
	}
	for name, value := range map[string]string{
		":method": req.Method, ":path": target(x), ":authority": req.Host, ":scheme": x.Scheme,
		"x-forwarded-for": x.ForwardedFor(), "x-forwarded-proto": x.Scheme, "x-forwarded-host": x.ForwardedHost(),
		"x-request-id": x.ID,
	} {
		fields[name] = text(value)
	}
	return fields
}

func (s *step) sends(name string) bool {
	for _, sent := range s.sent {
		if exchange.EqualFold(sent, name) {
			return true
		}
	}
	return false
}

// text makes a value one that a message can have: UTF-8, with "!" for what is none, as Envoy has it.
func text(s string) string { return strings.ToValidUTF8(s, "!") }

// addressOf returns nil where there is no address, as on a Unix socket.
func addressOf(a netip.AddrPort) *authv3.Address {
	if !a.IsValid() {
		return nil
	}
	return &authv3.Address{SocketAddress: &authv3.SocketAddress{Address: a.Addr().String(), PortValue: uint32(a.Port())}}
}

// principalOf returns whom a client's certificate names; empty: it showed none.
func principalOf(t *exchange.TLS) string {
	facts := t.Facts()
	for _, kind := range []string{"URI:", "DNS:"} {
		for name := range strings.SplitSeq(facts.SAN, ",") {
			if name, is := strings.CutPrefix(name, kind); is {
				return text(name)
			}
		}
	}
	return text(facts.Subject)
}
