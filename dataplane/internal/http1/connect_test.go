package http1

import (
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
)

// connects are requests for tunnels that are taken.
func connects() []string {
	return []string{
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
		"CONNECT A.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Connection: Keep-Alive\r\nUser-Agent: x\r\n\r\n",
		"CONNECT [::1]:1 HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
		"CONNECT 127.0.0.1:65535 HTTP/1.1\r\nHost: 127.0.0.1:65535\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	}
}

// hostileConnects are requests for tunnels that two readers could understand differently, or that name no target.
func hostileConnects() []string {
	const rest = "\r\nHost: a:80\r\n"
	all := []string{
		"CONNECT a:80 HTTP/1.0\r\n\r\n", "CONNECT a:80 HTTP/1.0" + rest + "\r\n",
		"CONNECT a:80 HTTP/1.1\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost: a:81\r\n\r\n",
		"CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\nHost:\r\n\r\n",
		"CONNECT a:80 HTTP/1.1" + rest + "Content-Length: 0\r\n\r\n", "CONNECT a:80 HTTP/1.1" + rest + "Content-Length: 3\r\n\r\n",
		"CONNECT a:80 HTTP/1.1" + rest + "Transfer-Encoding: chunked\r\n\r\n",
	}
	for _, target := range []string{
		"a", "a:", "a:0", "a:00080", "a:080", "a:65536", "a:99999", "a:100000", "a:-1", "a:+80", "a:8o", "a:80:80", ":80", ":", "::1:80", "[::1]", "[::1]:", "[::1:80",
		"::1]:80", "[]:80", "[g]:80", "[::1]x:80", "u@a:80", "u:p@a:80", "a:80@b:80", "@a:80", "/", "/a", "*", "a/b:80", "a:80/", "a:80/b", "a:80?b", "a?b:80", "?a:80",
		"http://a:80", "http://a:80/", "a:80#b", "a,b:80/", "a\\b:80", "a:80,b:80",
		strings.Repeat("a", 300) + ":80",
	} {
		all = append(all, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
	}
	return all
}

func TestConnect(t *testing.T) {
	for _, text := range connects() {
		x, m, err := request(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		req := &x.Request
		if req.Host == "" || req.Path != "" || req.HasQuery || req.Upgrade != exchange.Connect || req.ContentLength != 0 {
			t.Errorf("%q is %+v", text, req)
		}
		if m.persistent() || !m.connect {
			t.Errorf("%q: the connection carries another request", text)
		}
		if _, _, simple := peek([]byte(text)); simple {
			t.Errorf("%q is taken for a request that has been received whole", text)
		}
	}
}

// In versions of HTTP that have no request line the authority comes apart, and the same rules hold.
func TestConnectApart(t *testing.T) {
	for host, taken := range map[string]bool{"a:80": true, "[::1]:443": true, "a": false, "a:0": false, "u@a:80": false, "": false, "a:80/b": false, "a/b:80": false} {
		req := &exchange.Request{Version: exchange.HTTP2, Host: host, ContentLength: -1}
		err := codec.ReadTarget(req, "CONNECT", "", 100)
		asked := req.Upgrade == exchange.Connect && req.ContentLength == 0 && req.Method == "CONNECT"
		if (err == nil) != taken || taken && !asked {
			t.Errorf("%q: %v, %+v", host, err, req)
		}
	}
}
