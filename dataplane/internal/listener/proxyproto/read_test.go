package proxyproto

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns the two ends of a connection.
func pair(t *testing.T, network, address string) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if far, err = net.Dial(network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Error(err)
	}
}

func TestReadTakesTheHeaderAndNothingElse(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for name, header := range map[string]string{
			"text": "PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n", "binary": v2(0x21, 0x11, inet, extension(4, strings.Repeat("x", 3000))),
		} {
			for how, step := range map[string]int{"at once": 1 << 20, "byte by byte": 1, "in pieces": 7} {
				t.Run(network+" "+name+" "+how, func(t *testing.T) {
					address := "127.0.0.1:0"
					if network == "unix" {
						address = filepath.Join(t.TempDir(), "s")
					}
					near, far := pair(t, network, address)
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						for rest := header + "GET"; rest != ""; {
							n := min(step, len(rest))
							send(t, far, rest[:n])
							rest = rest[n:]
						}
						_ = far.Close()
					}()
					h, err := Read(near, 10*time.Second)
					if err != nil || h != client4 {
						t.Errorf("%+v, %v", h, err)
					}
					<-sent
					if rest, err := io.ReadAll(near); string(rest) != "GET" || err != nil {
						t.Errorf("left: %q, %v", rest, err)
					}
				})
			}
		}
	}
}

func TestReadFails(t *testing.T) {
	for name, test := range map[string]struct {
		sent string
		want error
	}{
		"when nothing comes":                 {"", ErrSilent},
		"when the header breaks off":         {"PROXY TCP4 192.0.2.7", io.ErrUnexpectedEOF},
		"when a binary header breaks off":    {v2(0x21, 0x11, inet)[:20], io.ErrUnexpectedEOF},
		"when something else comes":          {"GET / HTTP/1.1\r\n", ErrMalformed},
		"when the header is not of its kind": {v2(0x21, 0x12, inet), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t, "tcp", "127.0.0.1:0")
			send(t, far, test.sent)
			_ = far.(*net.TCPConn).CloseWrite()
			if h, err := Read(near, 10*time.Second); !errors.Is(err, test.want) {
				t.Errorf("%+v, %v", h, err)
			}
		})
	}
	t.Run("when the time is over", func(t *testing.T) {
		near, far := pair(t, "tcp", "127.0.0.1:0")
		send(t, far, "PROXY TCP4 192")
		if h, err := Read(near, 20*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v, %v", h, err)
		}
	})
	t.Run("without a socket of the system's", func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		if _, err := Read(near, time.Second); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	})
}
