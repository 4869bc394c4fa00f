package proxy

import (
	"slices"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
)

// admit leaves the protocol in x.Request.Upgrade that the client may go over to: the first of those that it names that
// the policy has. Where there is none the request goes on as if it had not asked (RFC 9110 section 7.8); over HTTP/2 it
// can't, and admit returns false with a response set.
func admit(x *exchange.Exchange, limits *config.Limits) bool {
	req := &x.Request
	if req.Method == "CONNECT" {
		return admitConnect(x, limits)
	}
	asked := req.Upgrade
	req.Upgrade = ""
	for protocol := range strings.SplitSeq(asked, ",") {
		protocol = strings.Trim(protocol, " \t")
		if exchange.EqualFold(protocol, exchange.Connect) {
			continue // that is no protocol
		}
		if slices.ContainsFunc(limits.Upgrades, func(a string) bool { return exchange.EqualFold(a, protocol) }) {
			req.Upgrade = protocol
			break
		}
	}
	switch {
	case req.Upgrade == "" && req.Version == exchange.HTTP2:
		x.Fail(fault.NotImplemented, "this route does not speak the protocol that the stream is opened for")
		return false
	case !exchange.EqualFold(req.Upgrade, exchange.WebSocket):
		return true
	case req.Method != "GET": // RFC 6455 section 4.1
		req.Upgrade = ""
	case req.Version == exchange.HTTP2:
		req.NewWebSocketKey()
	default:
		if _, ok := req.WebSocketKey(); !ok {
			x.Fail(fault.BadRequest, "Sec-WebSocket-Key is not 16 bytes in base64")
			return false
		}
	}
	return true
}
