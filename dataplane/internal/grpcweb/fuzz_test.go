package grpcweb

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

// client is the side that a translation stands before: it gives the body in parts, and takes a response.
type client struct {
	exchange.Downstream
	parts [][]byte
	got   []byte
	whole bool
}

func (c *client) NextBody() ([]byte, error) {
	if len(c.parts) == 0 {
		return nil, io.EOF
	}
	part := c.parts[0]
	c.parts = c.parts[1:]
	return part, nil
}

func (c *client) WriteHead(_ *exchange.Exchange, part []byte, last bool) error {
	return c.WriteBody(nil, part, last)
}

func (c *client) WriteBody(_ *exchange.Exchange, part []byte, last bool) error {
	if c.whole {
		return errors.New("there is more after the end")
	}
	c.got, c.whole = append(c.got, part...), last
	return nil
}

func readAll(d *down) (all []byte, err error) {
	for {
		part, err := d.NextBody()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
}

// groups decodes text that is made of whole groups of four characters, each of which may be padded: the reference.
func groups(text string) (all []byte, ok bool) {
	if len(text)%4 != 0 {
		return nil, false
	}
	for ; text != ""; text = text[4:] {
		part, err := base64.StdEncoding.DecodeString(text[:4])
		if err != nil {
			return nil, false
		}
		all = append(all, part...)
	}
	return all, true
}

// FuzzText decodes a body of application/grpc-web-text that comes in two parts: it is what the reference makes of the
// whole, or an error where that has one.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "AAAAAAA=", "AAAA\nAAA", "QQ==QUI=", "====", "QUJD", "Q", "-_-_", "QR==", "Zm9v\r\n\r\n"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, at int) {
		at = max(0, min(at, len(text)))
		want, ok := groups(text)
		got, err := readAll(&down{text: true, Downstream: &client{parts: [][]byte{[]byte(text[:at]), []byte(text[at:])}}})
		if ok != (err == nil) || !bytes.Equal(got, want) {
			t.Errorf("%q cut at %d: %q, %v; want %q, %v", text, at, got, err, want, ok)
		}
	})
}

// split reads the parts of a response: the messages, and the trailers, which are last and there once.
func split(t *testing.T, body []byte) (read [][]byte, trailers string) {
	for len(body) > 0 {
		if trailers != "" || len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) > len(body)-5 {
			t.Fatalf("%q is left after %q", body, trailers)
		}
		n := 5 + int(binary.BigEndian.Uint32(body[1:]))
		if body[0] == trailerFlag {
			trailers = string(body[5:n])
		} else {
			read = append(read, body[:n])
		}
		body = body[n:]
	}
	return read, trailers
}

// FuzzResponse translates a response that comes in two parts. What is whole has the service's bytes and then one part
// with the trailers, in text or not; what ends within a message, has no end.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x03abc\x01\x00\x00\x00\x00", "\x00\x00\x00\x00\x09abc", "\x00\x00", "\x00\xff\xff\xff\xffabc"} {
		f.Add([]byte(s), 2, "all is well", true)
		f.Add([]byte(s), 7, "", false)
	}
	f.Fuzz(func(t *testing.T, sent []byte, at int, message string, text bool) {
		at = max(0, min(at, len(sent)))
		if strings.ContainsAny(message, "\r\n") || bytes.IndexByte(sent, trailerFlag) >= 0 {
			return // no codec lets such a value through; and a service's own flag would not be told from ours
		}
		c := &client{}
		d := &down{Downstream: c, text: text}
		x := &exchange.Exchange{}
		x.RPC = exchange.GRPCWeb
		x.Request.Method = "POST"
		x.Response.Header.Set("Content-Type", "application/grpc")
		err := d.WriteHead(x, sent[:at], false)
		if err == nil {
			x.Response.Trailer.Add("Grpc-Message", message)
			err = d.WriteBody(x, sent[at:], true)
		}
		whole := true
		for rest := sent; len(rest) > 0 && whole; {
			if whole = len(rest) >= 5 && uint64(binary.BigEndian.Uint32(rest[1:])) <= uint64(len(rest)-5); whole {
				rest = rest[5+binary.BigEndian.Uint32(rest[1:]):]
			}
		}
		if whole != (err == nil) || whole != c.whole {
			t.Fatalf("%q cut at %d: whole %v, %v", sent, at, c.whole, err)
		}
		got := c.got
		if text {
			var ok bool
			if got, ok = groups(string(got)); !ok {
				t.Fatalf("%q is not base64", c.got)
			}
		}
		if !whole {
			if !bytes.Equal(got, sent) {
				t.Errorf("%q came out as %q", sent, got)
			}
			return
		}
		read, trailers := split(t, got)
		if !bytes.Equal(bytes.Join(read, nil), sent) || trailers != "grpc-message: "+message+"\r\n" {
			t.Errorf("%q came out as %q, with the trailers %q", sent, read, trailers)
		}
	})
}

// FuzzPass passes a response on that comes in two parts and then breaks off. The client has the service's bytes, and
// where they are whole messages, one more part with the status, unless the service has sent one; otherwise the
// response has no end.
func FuzzPass(f *testing.F) {
	for _, s := range []string{
		"", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x03abc\x01\x00\x00\x00\x00",
		"\x00\x00\x00\x00\x03abc\x80\x00\x00\x00\x02x:", "\x00\x00\x00\x00\x09abc", "\x00\x00",
	} {
		f.Add([]byte(s), 2, false)
		f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(s))), 7, true)
	}
	f.Add([]byte("AAAA!AAA"), 5, true)
	f.Add([]byte("AAAAAA"), 5, true)
	f.Fuzz(func(t *testing.T, sent []byte, at int, text bool) {
		at = max(0, min(at, len(sent)))
		c := &client{}
		x := &exchange.Exchange{}
		x.RPC = exchange.GRPCWeb
		x.Down = c
		x.Request.Method = "POST"
		mediaType, messages, clear := "application/grpc-web+proto", sent, true
		if text {
			mediaType = "application/grpc-web-text"
			messages, clear = groups(string(sent))
		}
		x.Response.Header.Set("Content-Type", mediaType)
		Pass(x)
		if err := errors.Join(x.Down.WriteHead(x, sent[:at], false), x.Down.WriteBody(x, sent[at:], false)); err != nil {
			t.Fatal(err)
		}
		x.Response.Trailer.Add("Grpc-Status", "14")
		err := End(x)
		last, whole := byte(0), clear
		for rest := messages; len(rest) > 0 && whole; {
			if whole = len(rest) >= 5 && uint64(binary.BigEndian.Uint32(rest[1:])) <= uint64(len(rest)-5); whole {
				last, rest = rest[0], rest[5+binary.BigEndian.Uint32(rest[1:]):]
			}
		}
		if whole != (err == nil) || whole != c.whole || !bytes.HasPrefix(c.got, sent) {
			t.Fatalf("%q cut at %d: %q, whole %v, %v", sent, at, c.got, c.whole, err)
		}
		added := c.got[len(sent):]
		if text {
			added, _ = groups(string(added))
		}
		var want []byte
		if whole && last&trailerFlag == 0 {
			want = []byte("\x80\x00\x00\x00\x11grpc-status: 14\r\n")
		}
		if !bytes.Equal(added, want) {
			t.Errorf("%q was completed by %q, want %q", sent, added, want)
		}
	})
}
