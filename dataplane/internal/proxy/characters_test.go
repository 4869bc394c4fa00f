package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/target"
)

// inQuery and inPath are the characters that may stand in targets as they are, see package target and http1.ReadTarget. What else is visible is refused in paths,
// and space, "#", control characters and what is not ASCII everywhere.
const (
	always  = "!$&'()*+,-.0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz|~"
	inQuery = always + "%/?\"<>\\`{}"
	inPath  = always + "/"
)

// TestCharactersOfTargets sends every character in a query and in a path, over HTTP/1.1 and HTTP/2: both take the same, and the service sees what was sent.
func TestCharactersOfTargets(t *testing.T) {
	w := newWitness(t)
	g := startWith(t, http1.DefaultLimits(), to(w.address, ""))
	two := newH2Server(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.RequestURI) }))
	onward := startWith(t, http1.DefaultLimits(), speaking("h2c", two.address, ""))
	for c := range 256 {
		for _, part := range []struct{ before, allowed string }{{"/p?a=b&c=", inQuery}, {"/p", inPath}} {
			sent := part.before + string([]byte{byte(c)}) + "x"
			taken := strings.IndexByte(part.allowed, byte(c)) >= 0
			if part.before == "/p" && c == '?' {
				taken = true // the query begins
			}
			if c == '\r' || c == '\n' { // it ends the line
				continue
			}
			res := g.raw("GET "+sent+" HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
			if saw := w.target(); (res.StatusCode == 200) != taken || taken && saw != sent || !taken && (res.StatusCode != 400 || saw != "") {
				t.Errorf("HTTP/1.1, %q: %s, and the service saw %q; to be taken: %v", sent, res.Status, saw, taken)
			}
			heard := g.ask(":method", "GET", ":scheme", "http", ":authority", "a", ":path", sent)
			if saw := w.target(); (heard.status == "200") != taken || taken && saw != sent || !taken && (heard.status != "400" && heard.status != "" || saw != "") {
				t.Errorf("HTTP/2, %q: %s, and the service saw %q; to be taken: %v", sent, heard.status, saw, taken)
			}
			if res := onward.raw("GET "+sent+" HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]; taken && body(t, res) != sent {
				t.Errorf("to a service of HTTP/2, %q: %s", sent, res.Status)
			}
		}
	}
}

// What browsers send as it is goes where a route of that name leads.
func TestRouteWithUnescapedCharacters(t *testing.T) {
	g := start(t, "routes: [{name: a, path: '/a^b|c', direct_response: {body: hi}}]")
	if res := g.raw("GET /a^b|c?{}^`|\\ HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]; res.StatusCode != 200 {
		t.Error(res.Status)
	}
}

// Of what has to be escaped in paths a setting decides, on both sides alike.
func TestUnescapedPaths(t *testing.T) {
	w := newWitness(t)
	for _, test := range []struct {
		action target.Action
		want   string
	}{{target.Refuse, ""}, {target.Normalise, "/a%22%3C%3E%60%7B%7D?{\""}, {target.Keep, "/a\"<>`{}?{\""}} {
		set := target.DefaultSettings()
		set.Unescaped = test.action
		g := startNode(t, http1.DefaultLimits(), set, to(w.address, ""))
		g.raw("GET /a\"<>`{}?{\" HTTP/1.1\r\nHost: a\r\n\r\n", "GET")
		if saw := w.target(); saw != test.want {
			t.Errorf("HTTP/1.1, %v: the service saw %q", test.action, saw)
		}
		g.ask(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/a\"<>`{}?{\"")
		if saw := w.target(); saw != test.want {
			t.Errorf("HTTP/2, %v: the service saw %q", test.action, saw)
		}
	}
}
