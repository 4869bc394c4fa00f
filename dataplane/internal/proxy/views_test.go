package proxy

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/runtime"
)

// named returns the configuration of one service and of routes to it, each of which the service can tell by X-Route.
func named(address string, routes ...string) string {
	host, port, _ := net.SplitHostPort(address)
	var all, middleware, pipelines strings.Builder
	for i, r := range routes {
		name, rest, _ := strings.Cut(r, " ")
		fmt.Fprintf(&all, "  - {name: %s, service_id: s, pipeline_id: p%d, %s}\n", name, i, rest)
		fmt.Fprintf(&middleware, "  - {name: m%d, type: headers, config: {request: {set: {X-Route: %s}}}}\n", i, name)
		fmt.Fprintf(&pipelines, "  - {name: p%d, middleware_ids: [m%d]}\n", i, i)
	}
	return fmt.Sprintf("services: [{name: s, endpoints: [{host: %s, port: %s}]}]\n", host, port) +
		"routes:\n" + all.String() + "middleware:\n" + middleware.String() + "pipelines:\n" + pipelines.String()
}

// TestPathOptionsOfRoutes sends paths past routes with options of their own: each sees the path in its form, the best
// that matches gets it, and none gets what a better one refuses.
func TestPathOptionsOfRoutes(t *testing.T) {
	w := newWitness(t)
	g := startWith(t, codec.DefaultLimits(), named(w.address,
		"all path: /*",
		"admin path: /admin/*",
		"files path: /files/*, path_options: {encoded_slash: keep}",
		"private path: /files/private/*",
		"package path: '/npm/{name}', path_options: {encoded_slash: keep}",
		"slashes path: /s/*, path_options: {empty_segments: keep}",
		"dots path: /d/*, path_options: {dot_segments: normalise, parameters: refuse}",
		"strict path: /strict/*, path_options: {parameters: refuse}",
		"raw path: /raw/*, path_options: {unescaped: keep, escape_case: keep}",
		"low path: /*, priority: -1, path_options: {dot_segments: keep, encoded_slash: keep, encoded_control: keep}",
	))
	for _, test := range []struct{ path, want string }{ // the route and the target that the service saw, or a status
		{"/a", "all /a"},
		{"/a//b", "all /a/b"},
		{"/a%2Fb", "400"},
		{"/a/../b", "400"},
		{"/a%01", "400"}, // for all, though low would have it
		{"/files/a", "files /files/a"},
		{"/files/a%2fb", "files /files/a%2Fb"},
		{"/files/a//b%2F", "files /files/a/b%2F"},
		{"/files/a%2F..%2Fb", "400"},
		{"/files/private/a", "private /files/private/a"},
		{"/files/private/a%2Fb", "400"},
		{"/files/private%2Fa", "400"},
		{"/files/%70rivate%2fa", "400"},
		{"/files//private/a", "private /files/private/a"},
		{"/npm/@scope%2Fname", "package /npm/@scope%2Fname"},
		{"/npm/@scope/name", "all /npm/@scope/name"},
		{"/s/a//b", "slashes /s/a//b"},
		{"/s//admin/a", "slashes /s//admin/a"},
		{"//admin/a", "admin /admin/a"},
		{"//s//a", "slashes /s/a"},
		{"/d/a/./b/../c", "dots /d/a/c"},
		{"/d/../admin/a", "400"},
		{"/d/../../a", "400"},
		{"/d/a;b", "400"},
		{"/strict/a", "strict /strict/a"},
		{"/strict/a;b", "400"}, // other than for all, which would have it
		{"/strict;a/b", "400"},
		{"/other/a;b", "all /other/a;b"},
		{"/raw/{a}%c3%bc", "raw /raw/{a}%c3%bc"},
		{"/raw/a", "raw /raw/a"},
		{"/other/{a}", "400"},
		{"/other/%zz", "400"},
	} {
		w.take()
		res := g.raw("GET "+test.path+"?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]
		got := fmt.Sprint(res.StatusCode)
		if saw := w.take(); saw != "" {
			got = routeAndTarget(saw)
		}
		if got != strings.TrimSuffix(test.want+"?q", "400?q") && got != test.want {
			t.Errorf("HTTP/1.1, %s: %s, want %s", test.path, got, test.want)
		}
		heard := g.ask(":method", "GET", ":scheme", "http", ":authority", "a", ":path", test.path)
		got = heard.status
		if saw := w.take(); saw != "" {
			got = routeAndTarget(saw)
		}
		if got != test.want {
			t.Errorf("HTTP/2, %s: %s, want %s", test.path, got, test.want)
		}
	}
}

// routeAndTarget returns what a service of named saw.
func routeAndTarget(saw string) string {
	line, rest, _ := strings.Cut(saw, "\r\n")
	_, route, _ := strings.Cut(rest, "X-Route: ")
	route, _, _ = strings.Cut(route, "\r\n")
	return route + " " + strings.Split(line, " ")[1]
}

// A route's options come, change and go with it; what a rewrite has put together is brought into the route's form.
func TestPathOptionsChange(t *testing.T) {
	w := newWitness(t)
	g := startWith(t, codec.DefaultLimits(), "")
	for i, test := range []struct{ options, path, want string }{
		{"", "/a%2Fb", ""},
		{", path_options: {encoded_slash: keep}", "/a%2Fb", "/a%2Fb"},
		{", path_options: {encoded_slash: normalise}", "/a%2Fb", "/a/b"},
		{", path_options: {encoded_slash: refuse}", "/a%2Fb", ""},
		{", path_options: {encoded_slash: keep}, rewrite: {prefix: /x/}", "/a%2Fb", "/x/a%2Fb"},
		{", path_options: {encoded_slash: keep, dot_segments: keep}, rewrite: {prefix: /x/}", "/..%2Fb", ""}, // it is not known whom it is for
		{", path_options: {}", "/a%2Fb", ""},
		{", max_target_bytes: 64", "/" + strings.Repeat("a", 63), "/" + strings.Repeat("a", 63)},
		{", max_target_bytes: 64", "/" + strings.Repeat("a", 62) + "?b", ""},
		{", max_target_bytes: 64", "/" + strings.Repeat("/", 64), ""}, // as it is sent
		{"", "/" + strings.Repeat("a", 64), "/" + strings.Repeat("a", 64)},
	} {
		g.apply(strings.Replace(to(w.address, ""), "service_id: s}", "service_id: s"+test.options+"}", 1))
		g.raw("GET "+test.path+" HTTP/1.1\r\nHost: a\r\n\r\n", "GET")
		if saw := w.target(); saw != test.want {
			t.Errorf("%d, %s: the service saw %q, want %q", i, test.options, saw, test.want)
		}
	}
}

// matcher returns what finds the route of a path, and the form that the route sees, without a connection.
func (g *gateway) matcher() func(path string) (route, seen, refused string) {
	var x exchange.Exchange
	return func(path string) (route, seen, refused string) {
		x.Match.Method, x.Match.Host = "GET", "a"
		found := g.node.Snapshot().Find(&x.Match, path, &x.Params, &x.Memory)
		if found.Rule != nil {
			route = found.Rule.Value.(*runtime.Route).Name
		}
		return route, found.Path, found.Refused
	}
}

// Whatever a service gets leads to the same route when it is sent as it is, and so do all forms that other routes would
// make of it, unless they are refused: there is no path by which the rules of a better route can be gone around.
func TestWhatIsForwardedIsStable(t *testing.T) {
	g := startWith(t, codec.DefaultLimits(), named("127.0.0.1:1",
		"all path: /*", "admin path: /a/*", "kept path: /b/*, path_options: {encoded_slash: keep, empty_segments: keep}", "inner path: /b/a/*",
		"dots path: /a/b/*, path_options: {dot_segments: normalise, parameters: normalise}", "any path: '/{x}/b', path_options: {encoded_slash: normalise, unescaped: keep}"))
	find := g.matcher()
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			"/", "/", "/", "a", "b", "a", "b", "..", ".", "%2f", "%2F", ";x", ";", "%61", "%5c", "\\", "{", "%00",
		}), 0, 9).Draw(t, "parts"), "")
		route, seen, refused := find(path)
		if refused != "" {
			return
		}
		seen = strings.Clone(seen) // it is the exchange's
		if again, same, refused := find(seen); again != route || same != seen || refused != "" {
			t.Fatalf("%q goes to %s as %q, and that to %s as %q (%s)", path, route, seen, again, same, refused)
		}
	})
	paths := []string{"/a/x", "/b//x%2fy", "/a/b/c/../d;x", "//b/a/c"}
	if n := testing.AllocsPerRun(100, func() {
		for _, path := range paths {
			find(path)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A preflight is for the route of the request that it asks about, in the form that this one sees.
func TestPreflightOfAView(t *testing.T) {
	w := newWitness(t)
	g := startWith(t, codec.DefaultLimits(),
		to(w.address, "")+"---\nmiddleware: [{name: c, type: cors, config: {allow_origins: [\"https://o.test\"]}}]\n"+
			"pipelines: [{name: c, middleware_ids: [c]}]\nroutes: [{name: posts, path: '/posts/{id}', methods: [POST], "+
			"service_id: s, pipeline_id: c, path_options: {encoded_slash: keep}}]\n")
	for path, want := range map[string]string{"/posts/a%2Fb": "https://o.test", "/posts/a": "https://o.test", "/posts/a/b": "", "/other%2Fa": ""} {
		res := g.raw("OPTIONS "+path+" HTTP/1.1\r\nHost: a\r\nOrigin: https://o.test\r\nAccess-Control-Request-Method: POST\r\n\r\n", "OPTIONS")[0]
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: %s, allowed %q, want %q", path, res.Status, got, want)
		}
	}
}
