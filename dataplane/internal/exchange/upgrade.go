package exchange

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what RFC 6455 asks for; nothing is protected by it
	"encoding/base64"
)

// WebSocket is the protocol of RFC 6455 as Upgrade and ":protocol" name it.
const WebSocket = "websocket"

// Connect stands for the tunnel that a client asks for by CONNECT where protocols are named (RFC 9110 section 9.3.6).
// Request.Upgrade is it, once the request has been admitted, only where Method is CONNECT.
const Connect = "connect"

// webSocketGUID is what a server shows that it knows (RFC 6455 section 1.3).
const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// WebSocketKey returns the request's Sec-WebSocket-Key, and whether it is one: there once, 16 bytes in base64 (RFC 6455
// section 4.2.1).
func (r *Request) WebSocketKey() (key string, ok bool) {
	n := 0
	for v := range r.Header.Values("Sec-WebSocket-Key") {
		key = v
		n++
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	return key, n == 1 && err == nil && len(raw) == 16
}

// NewWebSocketKey gives the request a key of its own, for clients whose version of HTTP has none.
func (r *Request) NewWebSocketKey() {
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	r.Header.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(raw[:]))
}

// WebSocketAccept returns what a server answers to a key with (RFC 6455 section 4.2.2).
func WebSocketAccept(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID)) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:])
}
