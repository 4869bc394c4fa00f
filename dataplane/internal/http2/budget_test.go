package http2

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/shared/waittest"
)

// waiting is a handler whose exchanges last until they are broken off, except for "/now", and for "/begun", whose
// responses begin at once.
type waiting struct{}

type closing chan struct{}

func (c closing) Abort() {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (waiting) Serve(x *exchange.Exchange) {
	x.Response.Status, x.Response.ContentLength = 200, -1
	switch x.Request.Path {
	case "/now":
		_ = x.Down.WriteHead(x, nil, true)
		return
	case "/begun":
		_ = x.Down.WriteHead(x, []byte("begun"), false)
	}
	over := make(closing)
	x.Down.Watch(over)
	<-over
	x.Down.Watch(nil)
}

// bubble runs a client's conversation with a server, in virtual time.
func bubble(t *testing.T, limits codec.Limits, h codec.Handler, say func(k *talker)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			NewServer(limits, creditChecked{t, h}).Serve(socket.New(near), exchange.NewPeer(near.RemoteAddr()), func() {})
		}()
		k := talk(t, far)
		say(k)
		k.close()
		<-served
	})
}

// Requests that a client breaks off are no attack while they are few at a time, were answered or waited for: they do
// not end the connection.
func TestRequestsThatClientsBreakOff(t *testing.T) {
	for _, c := range []struct {
		name  string
		times int
		one   func(k *talker)
	}{
		{"twenty a second", 600, func(k *talker) {
			k.reset(k.ask("GET", "/", true))
			time.Sleep(time.Second / 20)
		}},
		{"many at once, every ten seconds", 10, func(k *talker) {
			for range 150 {
				k.reset(k.ask("GET", "/", true))
			}
			time.Sleep(10 * time.Second)
		}},
		{"as many as are answered", 800, func(k *talker) {
			k.reset(k.ask("GET", "/", true))
			k.outcome(k.ask("GET", "/now", true))
		}},
		{"whose responses have begun", 800, func(k *talker) {
			id := k.ask("GET", "/begun", true)
			k.head(id)
			k.reset(id)
		}},
		{"that were waited for", 8, func(k *talker) {
			var ids []uint32
			for range 100 {
				ids = append(ids, k.ask("GET", "/", true))
			}
			time.Sleep(2 * time.Second)
			for _, id := range ids {
				k.reset(id)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, codec.DefaultLimits(), waiting{}, func(k *talker) {
				neighbour := k.ask("GET", "/begun", true)
				for i := range c.times {
					if c.one(k); i%100 == 0 {
						k.outcome(k.ask("GET", "/now", true)) // what was broken off has ended
					}
				}
				if got := k.outcome(k.ask("GET", "/now", true)); got != "200" {
					t.Errorf("a request afterwards: %s", got)
				}
				k.mu.Lock()
				defer k.mu.Unlock()
				if got := k.ends[neighbour]; got != "" {
					t.Errorf("a request beside them: %s", got)
				}
			})
		})
	}
}

// TestFloodsInTurn sends what achieves nothing or costs much in mixtures, and in ways around the rule for one kind.
func TestFloodsInTurn(t *testing.T) {
	hold := func(k *talker, end bool) uint32 { return k.ask("GET", "/", end) }
	frame := func(k *talker, write func(f *xhttp2.Framer)) { k.write(write) }
	for _, c := range []struct {
		name string
		each func(k *talker, i int)
	}{
		{"pings and settings", func(k *talker, i int) {
			frame(k, func(f *xhttp2.Framer) {
				if i%2 == 0 {
					_ = f.WritePing(false, [8]byte{})
				} else {
					_ = f.WriteSettings()
				}
			})
		}},
		{"answered pings and settings", func(k *talker, i int) {
			frame(k, func(f *xhttp2.Framer) {
				if i%2 == 0 {
					_ = f.WritePing(true, [8]byte{})
				} else {
					_ = f.WriteSettingsAck()
				}
			})
		}},
		{"priorities, windows and unknown frames", func(k *talker, i int) {
			frame(k, func(f *xhttp2.Framer) {
				switch i % 3 {
				case 0:
					_ = f.WritePriority(1, xhttp2.PriorityParam{StreamDep: 3})
				case 1:
					_ = f.WriteWindowUpdate(0, 1)
				default:
					_ = f.WriteRawFrame(0xee, 0, 0, nil)
				}
			})
		}},
		{"empty data", func(k *talker, i int) {
			if i == 0 {
				hold(k, false)
			}
			frame(k, func(f *xhttp2.Framer) { _ = f.WriteData(1, false, nil) })
		}},
		{"data of padding alone", func(k *talker, i int) {
			if i == 0 {
				hold(k, false)
			}
			frame(k, func(f *xhttp2.Framer) { _ = f.WriteDataPadded(1, false, nil, make([]byte, 1)) })
		}},
		{"resets and pings", func(k *talker, i int) {
			k.reset(hold(k, true))
			frame(k, func(f *xhttp2.Framer) { _ = f.WritePing(false, [8]byte{}) })
		}},
		{"three resets for each answer", func(k *talker, i int) {
			if i%4 == 3 {
				k.ask("GET", "/now", true)
				return
			}
			k.reset(hold(k, true))
		}},
		{"resets of streams that are over", func(k *talker, i int) {
			if i == 0 {
				k.outcome(k.ask("GET", "/now", true))
			}
			k.reset(1)
		}},
		{"resets that the server is made to send, by an empty window", func(k *talker, i int) {
			id := hold(k, true)
			frame(k, func(f *xhttp2.Framer) { _ = f.WriteWindowUpdate(id, 0) })
		}},
		{"resets that the server is made to send, by a window that is too large", func(k *talker, i int) {
			id := hold(k, true)
			frame(k, func(f *xhttp2.Framer) { _ = f.WriteWindowUpdate(id, 1<<31-1) })
		}},
		{"resets that the server is made to send, by data after the end", func(k *talker, i int) {
			id := hold(k, true)
			frame(k, func(f *xhttp2.Framer) { _ = f.WriteData(id, true, []byte("x")) })
		}},
		{"resets that the server is made to send, by a stream that depends on itself", func(k *talker, i int) {
			id := hold(k, true)
			frame(k, func(f *xhttp2.Framer) { _ = f.WritePriority(id, xhttp2.PriorityParam{StreamDep: id}) })
		}},
		{"resets that the server is made to send, by trailers after the end", func(k *talker, i int) {
			id := hold(k, true)
			frame(k, func(f *xhttp2.Framer) {
				_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: k.fields("x", "1"), EndHeaders: true, EndStream: true})
			})
		}},
		{"requests that are refused", func(k *talker, i int) { hold(k, true) }},
		{"malformed requests", func(k *talker, i int) { k.ask("GET", "/", true, "connection", "close") }},
		{"trailers of streams that are over", func(k *talker, i int) {
			if i == 0 {
				k.dropped(k.ask("POST", "/now", false))
			}
			frame(k, func(f *xhttp2.Framer) {
				_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: k.fields("x", "1"), EndHeaders: true, EndStream: true})
			})
		}},
		{"empty parts of a head", func(k *talker, i int) {
			frame(k, func(f *xhttp2.Framer) {
				if i == 0 {
					_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: k.fields(":method", "GET")})
				}
				_ = f.WriteContinuation(1, false, nil)
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, codec.DefaultLimits(), waiting{}, func(k *talker) {
				over := func() bool {
					k.mu.Lock()
					defer k.mu.Unlock()
					return k.over != ""
				}
				for i := 0; i < 30_000 && !over(); i++ {
					c.each(k, i)
				}
				if !over() {
					t.Error("nothing happened")
					return
				}
				if got := k.ended(); got != "goaway ENHANCE_YOUR_CALM" {
					t.Error(got)
				}
			})
		})
	}
}

// What a service breaks off, it was asked for: that does not end the connection which others share, however often it
// happens.
func TestResetsByServices(t *testing.T) {
	c, f, peer := newClientConn(t)
	_, neighbour := ask(t, c, 3)
	skipPreface(t, peer)
	first := readUntil[*xhttp2.HeadersFrame](t, f).StreamID
	for i := range 2 * maxIdleFrames {
		stream := c.Begin(3, false)
		if stream == nil {
			t.Fatalf("the connection is over after %d resets", i)
		}
		x := &exchange.Exchange{}
		x.Request.Method, x.Request.Path, x.Request.Host = "GET", "/", "a"
		done := make(chan error, 1)
		go func() {
			_, _, err := stream.Send(x, nil, true, waittest.Limit)
			stream.Release(time.Now())
			done <- err
		}()
		id := readUntil[*xhttp2.HeadersFrame](t, f).StreamID
		if i == 0 {
			_ = f.WriteSettings()
		}
		_ = f.WriteRSTStream(id, xhttp2.ErrCodeInternal)
		if err := <-done; err == nil {
			t.Fatal("an answer came from nowhere")
		}
		_ = f.WriteRSTStream(id, xhttp2.ErrCodeInternal) // once more, as some do
	}
	_ = f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: first, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
	if err := <-neighbour; err != nil {
		t.Errorf("a stream beside them: %v", err)
	}
}

// A service that floods is still left: the connection is worth less than the time that it takes.
func TestFloodsByServices(t *testing.T) {
	for name, each := range map[string]func(f *xhttp2.Framer) error{
		"pings":  func(f *xhttp2.Framer) error { return f.WritePing(false, [8]byte{}) },
		"resets": func(f *xhttp2.Framer) error { return f.WriteRSTStream(1, xhttp2.ErrCodeCancel) },
		"heads": func(f *xhttp2.Framer) error {
			return f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, f, peer := newClientConn(t)
			stream, done := ask(t, c, 1)
			skipPreface(t, peer)
			readUntil[*xhttp2.HeadersFrame](t, f)
			_ = f.WriteSettings()
			stream.Abort()
			<-done
			go func() {
				for each(f) == nil {
				}
			}()
			if got := fmt.Sprint(readUntil[*xhttp2.GoAwayFrame](t, f).ErrCode); !strings.Contains(got, "ENHANCE_YOUR_CALM") {
				t.Error(got)
			}
		})
	}
}

// A budget fills with time, to its most.
func TestBudget(t *testing.T) {
	b := newTokenBucket(10, 2)
	now := time.Now()
	spend := func() (n int) {
		for b.spend(now) {
			n++
		}
		return n
	}
	if got := spend(); got != 10 {
		t.Errorf("%d at first", got)
	}
	now = now.Add(1500 * time.Millisecond)
	if got := spend(); got != 3 {
		t.Errorf("%d after a second and a half", got)
	}
	b.earn(4)
	if got := spend(); got != 4 {
		t.Errorf("%d earned", got)
	}
	now = now.Add(1000 * time.Hour)
	b.earn(100)
	if got := spend(); got != 10 {
		t.Errorf("%d after a long time", got)
	}
}
