package http2

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// speak1 behaves so in HTTP/1.1.
func (c *conduct) speak1(conn net.Conn, ended <-chan struct{}) (got string, took time.Duration) {
	responses := make(chan string)
	go func() { // takes one response after the other
		defer close(responses)
		var text strings.Builder
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			text.Write(b[:n])
			head, body, _ := strings.Cut(text.String(), "\r\n\r\n")
			length := -1
			if i := strings.Index(head, "Content-Length: "); i >= 0 {
				_, _ = fmt.Sscanf(head[i:], "Content-Length: %d", &length)
			}
			if len(body) == length {
				responses <- head[len("HTTP/1.1 "):][:3]
				text.Reset()
			}
			if err != nil {
				if text.Len() > 0 {
					responses <- "cut"
				}
				return
			}
		}
	}()
	var sending sync.WaitGroup
	defer func() {
		_ = conn.Close()
		for range responses {
		}
		sending.Wait()
	}()
	if c.again {
		sending.Go(func() { _, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") })
		<-responses
	}
	begun := time.Now()
	sending.Go(func() { c.send1(conn) })
	got, ok := <-responses
	if !ok {
		got = "end"
	}
	if c.stops {
		<-ended
	}
	return got, time.Since(begun)
}

func (c *conduct) send1(conn net.Conn) {
	if c.silent {
		return
	}
	target := c.target
	if target == "" {
		target = "/"
	}
	head := "POST " + target + " HTTP/1.1\r\nHost: a\r\n"
	for i := 0; i < len(c.fields); i += 2 {
		head += c.fields[i] + ": " + c.fields[i+1] + "\r\n"
	}
	if c.body == 0 {
		head += "\r\n"
	} else {
		head += "Transfer-Encoding: chunked\r\n\r\n"
	}
	if c.halfHead {
		_, _ = io.WriteString(conn, head[:len(head)/2])
		return
	}
	if c.headBy == 0 {
		_, _ = io.WriteString(conn, head)
	}
	for c.headBy > 0 && head != "" {
		n := min(c.headBy, len(head))
		if _, err := io.WriteString(conn, head[:n]); err != nil {
			return
		}
		head = head[n:]
		time.Sleep(time.Second)
	}
	if c.large > 0 {
		c.drip(conn, func(n int) string { return fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("b", n)) }, "0\r\n\r\n")
		return
	}
	c.sendBody(func(n int) bool {
		_, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", n, strings.Repeat("b", n))
		return err == nil
	}, func() { _, _ = io.WriteString(conn, "0\r\n\r\n") })
}

// sendBody sends the body in parts, if there is one.
func (c *conduct) sendBody(part func(n int) bool, end func()) {
	if c.body <= 0 {
		return
	}
	for left := c.body; left > 0; {
		n := min(left, 10_000)
		if c.bodyBy > 0 {
			n = min(n, c.bodyBy)
			time.Sleep(time.Second)
		}
		if !part(n) {
			return
		}
		left -= n
	}
	end()
}

// drip sends the body in large pieces, part by part.
func (c *conduct) drip(conn net.Conn, piece func(n int) string, end string) {
	var text strings.Builder
	for left := c.body; left > 0; {
		n := min(left, c.large)
		text.WriteString(piece(n))
		left -= n
	}
	text.WriteString(end)
	all := text.String()
	if c.stopsAfter > 0 {
		all = all[:c.stopsAfter]
	}
	for all != "" {
		n := min(len(all), c.bodyBy)
		if _, err := io.WriteString(conn, all[:n]); err != nil {
			return
		}
		all = all[n:]
		time.Sleep(time.Second)
	}
}

// speak2 behaves so in HTTP/2.
func (c *conduct) speak2(t *testing.T, conn net.Conn, ended <-chan struct{}) (got string, took time.Duration) {
	var settings []xhttp2.Setting
	switch c.through {
	case "stream":
		settings = []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: 0}}
	case "connection":
		settings = []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: granted - 1}}
	}
	k := talk(t, conn, settings...)
	if c.through == "stream" {
		k.write(func(f *xhttp2.Framer) { _ = f.WriteWindowUpdate(0, granted) })
	}
	var beside sync.WaitGroup
	over := make(chan struct{})
	defer func() {
		close(over)
		_ = conn.Close()
		<-k.stopped
		beside.Wait()
	}()
	if c.again {
		k.outcome(k.ask("GET", "/", true))
	}
	begun := time.Now()
	id := k.next
	every := func(d time.Duration, do func(i int) bool) {
		beside.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				case <-time.After(d):
				}
				if !do(i) {
					return
				}
			}
		})
	}
	if c.noisy {
		every(700*time.Millisecond, func(i int) bool {
			k.write(func(f *xhttp2.Framer) {
				switch {
				case c.body < 0 && i%2 == 0:
					_ = f.WriteData(id, false, nil)
				case i%3 == 0:
					_ = f.WriteSettings()
				default:
					_ = f.WritePing(false, [8]byte{})
				}
			})
			return true
		})
	}
	if c.silent {
		return c.result(k, 0), time.Since(begun)
	}
	beside.Go(func() { c.send2(k) })
	if c.through == "connection" {
		id = 0
	}
	if c.through == "stream" || c.through == "connection" {
		every(time.Second, func(i int) bool {
			k.write(func(f *xhttp2.Framer) { _ = f.WriteWindowUpdate(id, uint32(c.takes)) })
			return !c.stops
		})
	}
	got = c.result(k, 1+2*uint32(btoi(c.again)))
	return got, time.Since(begun)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// result waits for the outcome of a stream, or of the connection where there is none.
func (c *conduct) result(k *talker, id uint32) string {
	if id == 0 {
		got := k.ended()
		if got == "goaway NO_ERROR" {
			return "end"
		}
		return got
	}
	got := k.outcome(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.heads[id] == "200" && got != "200" {
		return "cut"
	}
	if k.heads[id] != "" {
		return k.heads[id]
	}
	return got
}

func (c *conduct) send2(k *talker) {
	target := c.target
	if target == "" {
		target = "/"
	}
	var id uint32
	k.write(func(f *xhttp2.Framer) {
		id = k.next
		k.next += 2
		k.mu.Lock()
		k.windows[id] = k.initial
		k.mu.Unlock()
		block := k.fields(append([]string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", target}, c.fields...)...)
		param := xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: c.body == 0}
		size := maxFrameBytes
		if c.parts {
			size = 1
		}
		whole := len(block) <= size
		param.BlockFragment, param.EndHeaders = block[:min(size, len(block))], whole
		var frames strings.Builder
		w := xhttp2.NewFramer(&frames, nil)
		_ = w.WriteHeaders(param)
		for block = block[len(param.BlockFragment):]; len(block) > 0; {
			n := min(size, len(block))
			_ = w.WriteContinuation(id, n == len(block), block[:n])
			block = block[n:]
		}
		text := frames.String()
		if c.halfHead {
			_, _ = io.WriteString(k.c, text[:len(text)/2])
			return
		}
		if c.headBy == 0 {
			_, _ = io.WriteString(k.c, text)
		}
		by := c.headBy
		if c.parts { // a frame at a time
			by = frameHeadBytes + 1
		}
		for by > 0 && text != "" {
			n := min(by, len(text))
			if _, err := io.WriteString(k.c, text[:n]); err != nil {
				return
			}
			text = text[n:]
			time.Sleep(time.Second)
		}
	})
	if c.large > 0 {
		c.drip(k.c, func(n int) string {
			return string(appendFrameHead(nil, n, frameData, 0, id)) + strings.Repeat("b", n)
		}, string(appendFrameHead(nil, 0, frameData, flagEndStream, id)))
		return
	}
	c.sendBody(func(n int) bool { return k.send(id, n, maxFrameBytes, 0) }, func() { k.finish(id) })
}
