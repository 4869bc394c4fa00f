package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/shared/pathnorm"
)

// inQuery and inPath are the characters that may stand in targets as they are, see package pathnorm and
// codec.ReadTarget. What else is visible is refused in paths,
// and space, "#", control characters and what is not ASCII everywhere.
const (
	always  = "!$&'()*+,-.0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz|~"
	inQuery = always + "%/?\"<>\\`{}"
	inPath  = always + "/"
)

// TestCharactersOfTargets sends every character in a query and in a path, over HTTP/1.1 and HTTP/2: both take the same,
// and the service sees what was sent.
func TestCharactersOfTargets(t *testing.T) {
	w := newWitness(t)
	g := startWith(t, codec.DefaultLimits(), to(w.address, ""))
	two := newH2Server(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.RequestURI) }))
	onward := startWith(t, codec.DefaultLimits(), speaking("h2c", two.address, ""))
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
		action pathnorm.Action
		want   string
	}{{pathnorm.Refuse, ""}, {pathnorm.Normalise, "/a%22%3C%3E%60%7B%7D?{\""}, {pathnorm.Keep, "/a\"<>`{}?{\""}} {
		set := pathnorm.DefaultSettings()
		set.Unescaped = test.action
		g := startNode(t, codec.DefaultLimits(), set, to(w.address, ""))
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

// The longest target is as long in both versions, whether it comes whole or in pieces.
func TestLongestTarget(t *testing.T) {
	w := newWitness(t)
	limits := codec.DefaultLimits()
	limits.MaxTargetBytes = 1000
	g := startWith(t, limits, to(w.address, ""))
	for _, sent := range []string{"/" + strings.Repeat("a", 999), "/a?" + strings.Repeat("b", 997), "/" + strings.Repeat("a", 1000), "/a?" + strings.Repeat("b", 998)} {
		want := 200
		if len(sent) > limits.MaxTargetBytes {
			want = 414
		}
		if heard := g.ask(":method", "GET", ":scheme", "http", ":authority", "a", ":path", sent); heard.status != fmt.Sprint(want) {
			t.Errorf("HTTP/2, %d bytes: %s, want %d", len(sent), heard.status, want)
		}
		for _, form := range []string{"GET " + sent, strings.Repeat("M", 32) + " http://" + strings.Repeat("h", 250) + sent} {
			host := "a"
			if form[0] == 'M' {
				host = strings.Repeat("h", 250)
			}
			for _, piece := range []int{1, 10_000} {
				if got := g.pieces(form+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n", piece); got != want {
					t.Errorf("HTTP/1.1, %.20s with %d bytes, in pieces of %d: %d, want %d", form, len(sent), piece, got, want)
				}
			}
		}
	}
}

// pieces sends text in pieces of a size, and returns the status of the response.
func (g *gateway) pieces(text string, size int) int {
	g.t.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for rest := text; rest != ""; {
		n := min(size, len(rest))
		if _, err := io.WriteString(c, rest[:n]); err != nil {
			break // it has been refused
		}
		rest = rest[n:]
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode
}
