package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// maxBodyBytes is how much of an answer's body is read, so that an endpoint sees its answer taken.
const maxBodyBytes = 64 << 10

// newProbe returns the prober that makes real connections, a new one for each check: what is to be known is whether the endpoint
// takes connections.
func newProbe() Prober {
	dialer := &net.Dialer{}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, t Target) error {
		if t.Check.Type == "tcp" {
			conn, err := dialer.DialContext(ctx, "tcp", t.address())
			if err != nil {
				return explain(err, t)
			}
			return conn.Close()
		}
		return explain(probeHTTP(ctx, client, t), t)
	}
}

func probeHTTP(ctx context.Context, client *http.Client, t Target) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.address()+t.Check.Path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "gateway-health-check")
	if t.Check.Host != "" {
		req.Host = t.Check.Host
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxBodyBytes)
	if !t.Check.Passes(res.StatusCode) {
		return fmt.Errorf("status %d", res.StatusCode)
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

// address returns "host:port".
func (t *Target) address() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }
