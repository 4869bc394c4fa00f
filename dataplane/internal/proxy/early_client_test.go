package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"gateway.internal/shared/waittest"
)

// upload is a request with a body of which the service may not want anything.
type uploaded struct {
	path    string
	bytes   int
	chunked bool
	expects bool // the client waits for 100 (Continue)
}

// told is what a client was told.
type told struct {
	status int
	text   string
}

// early sends uploads as a kind of client does, each of which has to be answered whatever becomes of its body.
type early interface {
	upload(u uploaded) (told, error)
}

// zeroBytes is a body of n bytes.
func zeroBytes(n int) io.Reader { return io.LimitReader(zeroReader{}, int64(n)) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// blind is a client over HTTP/1.1 that writes the whole request before it looks for an answer, as many do: an answer is
// lost on it where it can't write.
type blind struct {
	address string
	secure  *tls.Config
}

func (b *blind) dial() (net.Conn, error) {
	c, err := net.DialTimeout("tcp", b.address, waittest.Limit)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(waittest.Limit))
	if b.secure == nil {
		return c, nil
	}
	return tls.Client(c, b.secure), nil
}

func (b *blind) upload(u uploaded) (told, error) {
	c, err := b.dial()
	if err != nil {
		return told{}, err
	}
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	head := "POST " + u.path + " HTTP/1.1\r\nHost: a.example\r\n"
	if u.chunked {
		head += "Transfer-Encoding: chunked\r\n"
	} else {
		head += fmt.Sprintf("Content-Length: %d\r\n", u.bytes)
	}
	if u.expects {
		head += "Expect: 100-continue\r\n"
	}
	if _, err = io.WriteString(c, head+"\r\n"); err != nil {
		return told{}, fmt.Errorf("writing the head: %w", err)
	}
	refused := false
	var res *http.Response
	if u.expects {
		if res, err = http.ReadResponse(r, nil); err != nil {
			return told{}, fmt.Errorf("waiting for 100: %w", err)
		}
		refused = res.StatusCode >= 200
	}
	if !refused {
		if err := u.write(c); err != nil {
			return told{}, fmt.Errorf("writing the body: %w", err)
		}
		if res, err = http.ReadResponse(r, nil); err != nil {
			return told{}, fmt.Errorf("reading the head: %w", err)
		}
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return told{}, fmt.Errorf("status %d, reading the body: %w", res.StatusCode, err)
	}
	return told{res.StatusCode, string(text)}, b.after(c, r, res, refused)
}

// write sends the body.
func (u *uploaded) write(c net.Conn) error {
	if !u.chunked {
		_, err := io.CopyBuffer(struct{ io.Writer }{c}, zeroBytes(u.bytes), make([]byte, 64<<10))
		return err
	}
	for left := u.bytes; left > 0; {
		n := min(left, 32<<10)
		if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", n, strings.Repeat("x", n)); err != nil {
			return err
		}
		left -= n
	}
	_, err := io.WriteString(c, "0\r\n\r\n")
	return err
}

// after looks whether the connection goes on as the response says that it does.
func (b *blind) after(c net.Conn, r *bufio.Reader, res *http.Response, refused bool) error {
	if res.Close {
		if _, err := r.ReadByte(); err != io.EOF {
			return fmt.Errorf("after a last response: %w", err)
		}
		return nil
	}
	if refused {
		return errors.New("the client sends no body, and was not told that the connection ends")
	}
	_, _ = io.WriteString(c, "POST /h1/next HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nok")
	next, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("the next request, on a connection that was not said to end: %w", err)
	}
	defer func() { _ = next.Body.Close() }()
	if text, err := io.ReadAll(next.Body); next.StatusCode != 200 || string(text) != "ok" || err != nil {
		return fmt.Errorf("the next request got %d %q, %w", next.StatusCode, text, err)
	}
	return nil
}

// multiplexing is a client over HTTP/2 that sends all uploads on one connection.
type multiplexing struct {
	client *http.Client
	url    string
}

func newMultiplexing(address string, secure *tls.Config) *multiplexing {
	m := &multiplexing{url: "http://" + address}
	tr := &http.Transport{Protocols: &http.Protocols{}, TLSClientConfig: secure, ExpectContinueTimeout: waittest.Limit}
	tr.Protocols.SetUnencryptedHTTP2(secure == nil)
	tr.Protocols.SetHTTP2(secure != nil)
	if secure != nil {
		m.url = "https://a.example"
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}
	}
	m.client = &http.Client{Transport: tr, Timeout: waittest.Limit}
	return m
}

func (m *multiplexing) upload(u uploaded) (told, error) {
	got, err := m.post(u, zeroBytes(u.bytes))
	if err != nil {
		return got, err
	}
	// What was not wanted of the uploads must not be missing from the windows of others.
	next := strings.Repeat("next", 10<<10)
	after, err := m.post(uploaded{path: "/h1/next", bytes: len(next)}, strings.NewReader(next))
	if err == nil && (after.status != 200 || after.text != next) {
		err = fmt.Errorf("got %d %.100q", after.status, after.text)
	}
	if err != nil {
		return got, fmt.Errorf("the next upload: %w", err)
	}
	return got, nil
}

func (m *multiplexing) post(u uploaded, body io.Reader) (told, error) {
	req, err := http.NewRequest(http.MethodPost, m.url+u.path, body)
	if err != nil {
		return told{}, err
	}
	req.ContentLength = int64(u.bytes)
	if u.chunked {
		req.ContentLength = -1
	}
	if u.expects {
		req.Header.Set("Expect", "100-continue")
	}
	res, err := m.client.Do(req)
	if err != nil {
		return told{}, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return told{res.StatusCode, string(text)}, err
}
