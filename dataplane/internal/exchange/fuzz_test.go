package exchange

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"gateway.internal/shared/fault"
)

var timeouts = regexp.MustCompile(`^[0-9]{1,8}[HMSmun]$`)

// FuzzRPCTimeout reads any grpc-timeout: only what gRPC allows counts, and what is passed on is read as no longer, and
// hardly shorter, a time.
func FuzzRPCTimeout(f *testing.F) {
	for _, s := range []string{"1S", "99999999H", "0n", "+1S", "1 S", "100000000S", "S", "1x", "00000001u", "5m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r Request
		r.Header.Set("grpc-timeout", text)
		d := r.RPCTimeout()
		if d < 0 || d > 0 && !timeouts.MatchString(text) {
			t.Fatalf("%q is %v", text, d)
		}
		if d == 0 {
			return
		}
		r.SetRPCTimeout(d)
		told := r.Header.Get("grpc-timeout")
		again := r.RPCTimeout()
		if !timeouts.MatchString(told) || again > max(d, time.Nanosecond) || d-again > max(time.Microsecond, d/50) && d < 1000*time.Hour {
			t.Errorf("%q is %v, and is told as %q, which is %v", text, d, told, again)
		}
	})
}

// FuzzRPCMessage holds that every message can be a header's value, and that clients read it as it was.
func FuzzRPCMessage(f *testing.F) {
	for _, s := range []string{"", "no é", "100%", "a\r\nb: c", "\xff\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var h Header
		x := &Exchange{}
		x.AddStatus(&h, fault.UpstreamUnavailable, text)
		value := h.Get("grpc-message")
		for _, c := range []byte(value) {
			if c < 0x20 || c > 0x7e {
				t.Fatalf("%q has %#x", value, c)
			}
		}
		if got, err := url.PathUnescape(value); err != nil || got != string(fault.UpstreamUnavailable)+": "+text {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	})
}

// FuzzMediaType holds that a request is only taken for gRPC where its media type is one of the four, with a suffix or
// parameters.
func FuzzMediaType(f *testing.F) {
	for _, s := range []string{"application/grpc", "application/grpc+proto; a=b", "Application/GRPC-Web-Text", "application/grpc-webx", "application/grpcx", "application/grpc-web-text+proto", "application/grpc-web "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name := strings.ToLower(text)
		if i := strings.IndexAny(name, "+; "); i >= 0 {
			name = name[:i]
		}
		want := map[string]RPC{"application/grpc": GRPC, "application/grpc-web": GRPCWeb, "application/grpc-web-text": GRPCWebText}[name]
		for _, c := range text {
			if c > 0x7f {
				return // which letters are the same there, is for ASCII only
			}
		}
		if got := rpcOf(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	})
}

// FuzzWebSocketKey holds that a key is taken where it is 16 bytes in base64 and there once.
func FuzzWebSocketKey(f *testing.F) {
	f.Add("dGhlIHNhbXBsZSBub25jZQ==", "")
	f.Add("dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ==")
	f.Add("dGhlIHNhbXBsZSBub25jZR==", "")
	f.Fuzz(func(t *testing.T, one, two string) {
		var r Request
		r.Header.Add("Sec-WebSocket-Key", one)
		if two != "" {
			r.Header.Add("sec-websocket-key", two)
		}
		key, ok := r.WebSocketKey()
		if !ok {
			return
		}
		if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 || two != "" || key != one {
			t.Errorf("%q and %q are a key: %q", one, two, key)
		}
	})
}
