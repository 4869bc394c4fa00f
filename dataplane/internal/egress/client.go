package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// The limits of every request.
const (
	// DefaultTimeout is the longest time for all of it where its context has no earlier end.
	DefaultTimeout = 5 * time.Second
	maxHeadBytes   = 64 << 10
	maxRedirects   = 3
)

// Client asks servers. It is safe for concurrent use. The nil client asks by the zero Policy.
type Client struct {
	http *http.Client
}

// New returns a client. nameServers are asked for addresses, each an ADDRESS:PORT; none: those of the machine.
func New(p *Policy, nameServers ...string) *Client {
	d := &dialer{policy: p, names: net.DefaultResolver}
	if len(nameServers) > 0 {
		d.names = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (c net.Conn, err error) {
			for _, s := range nameServers {
				if c, err = new(net.Dialer).DialContext(ctx, network, s); err == nil {
					return c, nil
				}
			}
			return nil, err
		}}
	}
	return &Client{&http.Client{
		Transport: &http.Transport{
			DialContext: d.dial, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxHeadBytes, MaxIdleConnsPerHost: 16,
			IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: DefaultTimeout, ExpectContinueTimeout: time.Second,
			// No proxy of the environment: the policy is about the servers themselves.
		},
		CheckRedirect: sameServer,
	}}
}

// sameServer keeps redirects to the server that was asked.
func sameServer(next *http.Request, before []*http.Request) error {
	first := before[0]
	switch {
	case len(before) > maxRedirects:
		return errors.New("the server redirects too often")
	case first.Method != http.MethodGet:
		return errors.New("the server redirects, which is not followed") // with what was sent
	case next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host:
		return errors.New("the server redirects to another one, which is not followed")
	}
	return nil
}

var standard = New(nil)

// Close ends idle connections.
func (c *Client) Close() {
	if c != nil {
		c.http.CloseIdleConnections()
	}
}

// Response is what a server answers.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

type urlKey struct{}

// Do sends a request and reads the whole response, whose body may have a number of bytes: more is an error. The errors
// don't have what was sent, nor the URL's query.
func (c *Client) Do(r *http.Request, maxBytes int64) (*Response, error) {
	if c == nil {
		c = standard
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), urlKey{}, r.URL), DefaultTimeout)
	defer cancel()
	res, err := c.http.Do(r.WithContext(ctx))
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) { // it has the URL
			err = wrapped.Err
		}
		return nil, fmt.Errorf("ask %s: %w", r.URL.Host, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the response of %s: %w", r.URL.Host, err)
	case int64(len(body)) > maxBytes:
		return nil, fmt.Errorf("the response of %s is longer than %d bytes", r.URL.Host, maxBytes)
	}
	return &Response{res.StatusCode, res.Header, body}, nil
}

type dialer struct {
	policy *Policy
	names  *net.Resolver
}

// dial connects to an address that the policy allows: what is looked at is the address of the connection.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	u, ok := ctx.Value(urlKey{}).(*url.URL)
	if !ok {
		return nil, errors.New("nobody has said what for")
	}
	dial := &net.Dialer{Resolver: d.names, Timeout: DefaultTimeout}
	dial.Control = func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if why := d.policy.check(u, a.Addr()); why != "" {
			return &Forbidden{why}
		}
		return nil
	}
	return dial.DialContext(ctx, network, address)
}

// Forbidden is a server that the policy does not allow.
type Forbidden struct{ why string }

// Error implements error.
func (f *Forbidden) Error() string { return f.why }
