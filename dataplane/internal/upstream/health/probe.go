package health

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// maxBodyBytes is how much of an answer's body is read: to be matched, and so that an endpoint sees its answer taken.
const maxBodyBytes = config.MaxCheckedBytes

// probes makes real connections, a new one for each check: what is to be known is whether the endpoint takes
// connections.
type probes struct {
	dialer net.Dialer
	// http1 asks by HTTP/1.1, or over TLS what ALPN gives; http2 asks by HTTP/2 without asking first.
	http1, http2 *http.Client
}

func newProbe() Prober {
	p := &probes{}
	p.http1, p.http2 = p.client(false), p.client(true)
	return func(ctx context.Context, t Target) error {
		if t.match == nil {
			t.match = matchOf(t.Check)
		}
		ctx = context.WithValue(ctx, targetKey{}, &t)
		switch t.Check.Type {
		case "tcp":
			return explain(p.connect(ctx, &t), t)
		case "grpc":
			return explain(p.grpc(ctx, &t), t)
		}
		return explain(p.http(ctx, &t), t)
	}
}

// targetKey is what a check's context keeps its target under, for dialing.
type targetKey struct{}

func (p *probes) client(http2 bool) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) },
			DialTLSContext:    func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dialTLS(ctx) },
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10, Protocols: protocols,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (p *probes) dial(ctx context.Context) (net.Conn, error) {
	t := ctx.Value(targetKey{}).(*Target)
	if path, isUnix := config.UnixPath(t.Host); isUnix {
		return p.dialer.DialContext(ctx, "unix", path)
	}
	if t.Dial[0] == "" {
		return p.dialer.DialContext(ctx, "tcp", t.address())
	}
	nc, err := p.dialer.DialContext(ctx, "tcp", t.Dial[0])
	if err != nil && t.Dial[1] != "" {
		if other, otherErr := p.dialer.DialContext(ctx, "tcp", t.Dial[1]); otherErr == nil {
			return other, nil
		}
	}
	return nc, err
}

func (p *probes) dialTLS(ctx context.Context) (net.Conn, error) {
	nc, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(nc, ctx.Value(targetKey{}).(*Target).TLS)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, nil
}

// connect checks that a connection opens, with TLS where the service speaks it, and what is said on it where the check
// says so.
func (p *probes) connect(ctx context.Context, t *Target) error {
	dial := p.dial
	if t.TLS != nil {
		dial = p.dialTLS
	}
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, has := ctx.Deadline(); has {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if t.Check.Send != "" {
		if _, err := io.WriteString(conn, t.Check.Send); err != nil {
			return ofContext(ctx, err)
		}
	}
	if t.match == nil {
		return nil
	}
	return ofContext(ctx, t.match.until(conn))
}

// ofContext returns the context's error in place of the one that its end has caused.
func ofContext(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

func (p *probes) request(ctx context.Context, t *Target, method, path string, body []byte) (*http.Response, error) {
	scheme, host, client := "http://", t.address(), p.http1
	if t.TLS != nil {
		scheme = "https://"
	}
	if t.HTTP2 {
		client = p.http2
	}
	if _, isUnix := config.UnixPath(t.Host); isUnix {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "gateway-health-check")
	t.Check.Headers(req.Header.Set)
	if t.Check.Host != "" {
		req.Host = t.Check.Host
	}
	if t.Check.Type == "grpc" {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	}
	return client.Do(req)
}

func (p *probes) http(ctx context.Context, t *Target) error {
	res, err := p.request(ctx, t, cmp.Or(t.Check.Method, http.MethodGet), t.Check.Path, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if t.match == nil || !t.Check.Passes(res.StatusCode) {
		_, _ = io.CopyN(io.Discard, res.Body, maxBodyBytes)
	}
	if !t.Check.Passes(res.StatusCode) {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	if t.match == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBodyBytes))
	switch {
	case t.match.in(body):
		return nil
	case err != nil:
		return err
	}
	return t.match.missing(len(body))
}

// grpcHeader is the length of what stands before each gRPC message: a flag for compression and the message's length.
const grpcHeader = 5

// grpc asks the standard health service (grpc.health.v1).
func (p *probes) grpc(ctx context.Context, t *Target) error {
	question, err := proto.Marshal(&healthv1.HealthCheckRequest{Service: t.Check.GRPCService})
	if err != nil {
		return err
	}
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(question)))
	res, err := p.request(ctx, t, http.MethodPost, healthv1.Health_Check_FullMethodName, append(framed, question...))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBodyBytes))
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("HTTP status %d", res.StatusCode)
	}
	status := res.Trailer
	if res.Header.Get("Grpc-Status") != "" { // an answer of trailers only
		status = res.Header
	}
	switch code := status.Get("Grpc-Status"); {
	case code == "":
		return errors.New("the answer has no grpc-status")
	case code != "0":
		return fmt.Errorf("gRPC status %s %s", code, status.Get("Grpc-Message"))
	case len(body) < grpcHeader || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-grpcHeader:
		return errors.New("the answer is not one uncompressed gRPC message")
	}
	answer := &healthv1.HealthCheckResponse{}
	if err := proto.Unmarshal(body[grpcHeader:], answer); err != nil {
		return err
	}
	if answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("it says %s", strings.ToLower(answer.GetStatus().String()))
	}
	return nil
}

// explain says what an operator needs: not the URL, which is known, and how long was waited.
func explain(err error, t Target) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", t.Check.Timeout)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// dialed is what the target is called in the log: the address, also of a name.
func (t *Target) dialed() string {
	if _, isUnix := config.UnixPath(t.Host); isUnix || t.Dial[0] == "" {
		return t.address()
	}
	return t.Dial[0]
}

// address returns "host:port", or "unix:/path".
func (t *Target) address() string {
	return config.EndpointKey(&configv1.Endpoint{Host: t.Host, Port: t.Port})
}
