package http2

import (
	"context"
	"crypto/tls"
	"net"
)

func dialPlain(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
