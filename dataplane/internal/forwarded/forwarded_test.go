package forwarded

import (
	"cmp"
	"net/netip"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

// from makes the exchange of a request with fields such as "For: 192.0.2.7", whose names are short for X-Forwarded-For
// and so on.
func from(t testing.TB, peer, fields string, settings exchange.Forwarding) *exchange.Exchange {
	t.Helper()
	var err error
	if settings.Proxies, err = exchange.ParseProxies([]string{"10.0.0.0/8", "2001:db8:1::/48", "unix"}); err != nil {
		t.Fatal(err)
	}
	p := exchange.ProxiedPeer(netip.AddrPort{})
	if peer != "unix" {
		p = exchange.ProxiedPeer(netip.AddrPortFrom(netip.MustParseAddr(peer), 1234))
	}
	p.Forwarding, p.Trusted = &settings, settings.Proxies.Trust(p.Client.Addr())
	x := &exchange.Exchange{}
	x.From(p)
	x.Request.Host = "h.test"
	long := map[string]string{"For": "X-Forwarded-For", "Proto": "X-Forwarded-Proto", "Host": "X-Forwarded-Host", "Std": "Forwarded"}
	for line := range strings.SplitSeq(fields, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			x.Request.Header.Add(cmp.Or(long[name], name), strings.TrimSpace(value))
		}
	}
	return x
}

var cases = []struct {
	name, peer, fields string
	fieldsOf           exchange.ForwardedFields
	// what services are told: the client comes first.
	want, scheme, host string
}{
	{"nothing is said", "10.0.0.1", "", 0, "10.0.0.1", "http", "h.test"},
	{"an untrusted peer's word", "192.0.2.1", "For: 6.6.6.6\nProto: https\nHost: evil", 0, "192.0.2.1", "http", "h.test"},
	{"one proxy", "10.0.0.1", "For: 192.0.2.7", 0, "192.0.2.7, 10.0.0.1", "http", "h.test"},
	{"a chain", "10.0.0.1", "For: 192.0.2.7, 10.0.0.3, 10.0.0.2", 0, "192.0.2.7, 10.0.0.3, 10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"a forged start", "10.0.0.1", "For: 6.6.6.6, 192.0.2.7", 0, "192.0.2.7, 10.0.0.1", "http", "h.test"},
	{"a forged trusted start", "10.0.0.1", "For: 10.9.9.9, 192.0.2.7, 10.0.0.2", 0, "192.0.2.7, 10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"several lines", "10.0.0.1", "For: 6.6.6.6, 192.0.2.7\nFor: 10.0.0.2", 0, "192.0.2.7, 10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"all are trusted", "10.0.0.1", "For: 10.0.0.3, 10.0.0.2", 0, "10.0.0.3, 10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"unknown", "10.0.0.1", "For: 6.6.6.6, unknown", 0, "10.0.0.1", "http", "h.test"},
	{"garbage behind a proxy", "10.0.0.1", "For: 6.6.6.6, _hidden, 10.0.0.2", 0, "10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"an empty end", "10.0.0.1", "For: 6.6.6.6,", 0, "10.0.0.1", "http", "h.test"},
	{"an empty element", "10.0.0.1", "For: 6.6.6.6, , 10.0.0.2", 0, "10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"an empty line", "10.0.0.1", "For: 6.6.6.6\nFor: ", 0, "10.0.0.1", "http", "h.test"},
	{"a port", "10.0.0.1", "For: 192.0.2.7:80", 0, "192.0.2.7, 10.0.0.1", "http", "h.test"},
	{"a port that is too large", "10.0.0.1", "For: 192.0.2.7:65536", 0, "10.0.0.1", "http", "h.test"},
	{"a port that is none", "10.0.0.1", "For: 192.0.2.7:", 0, "10.0.0.1", "http", "h.test"},
	{"IPv6", "10.0.0.1", "For: 2001:db8::7", 0, "2001:db8::7, 10.0.0.1", "http", "h.test"},
	{"IPv6 in brackets", "10.0.0.1", "For: [2001:db8::7]", 0, "2001:db8::7, 10.0.0.1", "http", "h.test"},
	{"IPv6 with a port", "10.0.0.1", "For: [2001:db8::7]:443", 0, "2001:db8::7, 10.0.0.1", "http", "h.test"},
	{"IPv6 trusted", "2001:db8:1::1", "For: 192.0.2.7, 2001:DB8:1:0::2", 0, "192.0.2.7, 2001:db8:1::2, 2001:db8:1::1", "http", "h.test"},
	{"IPv4 as IPv6", "10.0.0.1", "For: 192.0.2.7, ::ffff:10.0.0.2", 0, "192.0.2.7, 10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"a zone", "10.0.0.1", "For: fe80::1%eth0", 0, "10.0.0.1", "http", "h.test"},
	{"an open bracket", "10.0.0.1", "For: [2001:db8::7", 0, "10.0.0.1", "http", "h.test"},
	{"IPv4 in brackets", "10.0.0.1", "For: [192.0.2.7]", 0, "10.0.0.1", "http", "h.test"},
	{"quotes", "10.0.0.1", `For: "192.0.2.7"`, 0, "10.0.0.1", "http", "h.test"},
	{"leading zeros", "10.0.0.1", "For: 192.0.02.7", 0, "10.0.0.1", "http", "h.test"},
	{"a number", "10.0.0.1", "For: 3221225991", 0, "10.0.0.1", "http", "h.test"},
	{"a space inside", "10.0.0.1", "For: 192.0.2.7 10.0.0.2", 0, "10.0.0.1", "http", "h.test"},
	{"a name", "10.0.0.1", "For: localhost", 0, "10.0.0.1", "http", "h.test"},
	{"far too long", "10.0.0.1", "For: " + strings.Repeat("1", 5000), 0, "10.0.0.1", "http", "h.test"},
	{"a Unix socket", "unix", "For: 192.0.2.7", 0, "192.0.2.7", "http", "h.test"},
	{"a Unix socket that says nothing", "unix", "", 0, "unknown", "http", "h.test"},
	{"scheme and host", "10.0.0.1", "For: 192.0.2.7\nProto: https\nHost: a.test:8443", 0, "192.0.2.7, 10.0.0.1", "https", "a.test:8443"},
	{"a scheme without an address", "10.0.0.1", "Proto: HTTPS", 0, "10.0.0.1", "https", "h.test"},
	{"a scheme for each", "10.0.0.1", "For: 6.6.6.6, 192.0.2.7, 10.0.0.2\nProto: http, https, http", 0, "192.0.2.7, 10.0.0.2, 10.0.0.1", "https", "h.test"},
	{"one scheme for all", "10.0.0.1", "For: 192.0.2.7, 10.0.0.2\nProto: wss", 0, "192.0.2.7, 10.0.0.2, 10.0.0.1", "https", "h.test"},
	{"too few schemes", "10.0.0.1", "For: 192.0.2.7, 10.0.0.3, 10.0.0.2\nProto: https, https", 0, "192.0.2.7, 10.0.0.3, 10.0.0.2, 10.0.0.1", "http", "h.test"},
	{"another scheme", "10.0.0.1", "For: 192.0.2.7\nProto: javascript", 0, "192.0.2.7, 10.0.0.1", "http", "h.test"},
	{"an odd host", "10.0.0.1", "For: 192.0.2.7\nHost: a b/c", 0, "192.0.2.7, 10.0.0.1", "http", "h.test"},
	{"the other field is not read", "10.0.0.1", "Std: for=6.6.6.6", 0, "10.0.0.1", "http", "h.test"},

	{"standard: untrusted", "192.0.2.1", "Std: for=6.6.6.6", exchange.ForwardedField, `for=192.0.2.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: all of it", "10.0.0.1", `Std: for=192.0.2.7;proto=https;by=10.0.0.1;host=a.test`, exchange.ForwardedField, `for=192.0.2.7;host="a.test";proto=https, for=10.0.0.1`, "https", "a.test"},
	{"standard: IPv6", "10.0.0.1", `Std: FOR="[2001:db8::7]:47011"`, exchange.ForwardedField, `for="[2001:db8::7]";host="h.test";proto=http, for=10.0.0.1`, "http", "h.test"},
	{"standard: a chain", "10.0.0.1", "Std: for=6.6.6.6;proto=https, for=192.0.2.7;proto=http\nStd: for=10.0.0.2;proto=https", exchange.ForwardedField, `for=192.0.2.7;host="h.test";proto=http, for=10.0.0.2, for=10.0.0.1`, "http", "h.test"},
	{"standard: IPv6 without brackets", "10.0.0.1", `Std: for="2001:db8::7"`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: a hidden port", "10.0.0.1", `Std: for="192.0.2.7:_x"`, exchange.ForwardedField, `for=192.0.2.7;host="h.test";proto=http, for=10.0.0.1`, "http", "h.test"},
	{"standard: a hidden client", "10.0.0.1", `Std: for=6.6.6.6, for=_x;proto=https`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=https`, "https", "h.test"},
	{"standard: no address", "10.0.0.1", `Std: for=6.6.6.6, proto=https`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=https`, "https", "h.test"},
	{"standard: an empty element", "10.0.0.1", `Std: for=6.6.6.6, `, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: repeated", "10.0.0.1", `Std: for=192.0.2.7;for=6.6.6.6`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: an open quote", "10.0.0.1", `Std: for=", for=192.0.2.7`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: a comma in quotes", "10.0.0.1", `Std: for=192.0.2.7;host="a, for=6.6.6.6"`, exchange.ForwardedField, `for=192.0.2.7;host="h.test";proto=http, for=10.0.0.1`, "http", "h.test"},
	{"standard: escapes", "10.0.0.1", `Std: for="192.0.2\.7"`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: a space beside =", "10.0.0.1", `Std: for =192.0.2.7`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: a token that is none", "10.0.0.1", `Std: for=192.0.2.7:80`, exchange.ForwardedField, `for=10.0.0.1;host="h.test";proto=http`, "http", "h.test"},
	{"standard: a broken line before", "10.0.0.1", "Std: for=\"\nStd: for=10.0.0.2", exchange.ForwardedField, `for=10.0.0.2;host="h.test";proto=http, for=10.0.0.1`, "http", "h.test"},
	{"standard: extensions", "10.0.0.1", `Std: secret=x;for=192.0.2.7;`, exchange.ForwardedField, `for=192.0.2.7;host="h.test";proto=http, for=10.0.0.1`, "http", "h.test"},
	{"standard: unknown at a Unix socket", "unix", "", exchange.ForwardedField, `for=unknown;host="h.test";proto=http`, "http", "h.test"},

	{"both: they agree", "10.0.0.1", "For: 192.0.2.7\nStd: for=192.0.2.7;proto=https", exchange.BothForwardedFields, "192.0.2.7, 10.0.0.1", "https", "h.test"},
	{"both: only one", "10.0.0.1", "For: 192.0.2.7", exchange.BothForwardedFields, "192.0.2.7, 10.0.0.1", "http", "h.test"},
	{"both: another client", "10.0.0.1", "For: 192.0.2.7\nStd: for=6.6.6.6", exchange.BothForwardedFields, "10.0.0.1", "http", "h.test"},
	{"both: another scheme", "10.0.0.1", "For: 192.0.2.7\nProto: http\nStd: for=192.0.2.7;proto=https", exchange.BothForwardedFields, "10.0.0.1", "http", "h.test"},
	{"both: another host", "10.0.0.1", "Host: a.test\nStd: for=192.0.2.7;host=b.test", exchange.BothForwardedFields, "10.0.0.1", "http", "h.test"},
	{"off", "10.0.0.1", "For: 6.6.6.6\nStd: for=6.6.6.6", exchange.NoForwardedFields, "", "http", "h.test"},
}

func TestApply(t *testing.T) {
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			x := from(t, test.peer, test.fields, exchange.Forwarding{Fields: test.fieldsOf})
			Apply(x)
			got := x.ForwardedFor()
			if x.Forwarded.OmitXForwarded {
				got = x.Forwarded.Standard
			}
			if got != test.want || x.Scheme != test.scheme || x.ForwardedHost() != test.host {
				t.Errorf("%q, %s, %s; want %q, %s, %s", got, x.Scheme, x.ForwardedHost(), test.want, test.scheme, test.host)
			}
			if x.Request.Host != "h.test" || x.Request.Header.Len() != 0 {
				t.Errorf("host %s, fields %v", x.Request.Host, x.Request.Header.Fields())
			}
			if x.Client.IsValid() && x.ClientText != x.Client.Addr().String() {
				t.Errorf("%s in text is %s", x.Client, x.ClientText)
			}
		})
	}
}

func TestCompanionsOfTrustedProxiesPass(t *testing.T) {
	for peer, want := range map[string]int{"10.0.0.1": 3, "192.0.2.1": 1} {
		x := from(t, peer, "X-Forwarded-Port: 443\nX-Real-IP: 6.6.6.6\nAccept: a", exchange.Forwarding{})
		Apply(x)
		if n := x.Request.Header.Len(); n != want {
			t.Errorf("%s: %d fields are left, not %d", peer, n, want)
		}
	}
}

func TestRouteByForwardedHost(t *testing.T) {
	x := from(t, "10.0.0.1", "Host: a.test", exchange.Forwarding{RouteByHost: true})
	if Apply(x); x.Request.Host != "a.test" {
		t.Error(x.Request.Host)
	}
	x = from(t, "192.0.2.1", "Host: a.test", exchange.Forwarding{RouteByHost: true})
	if Apply(x); x.Request.Host != "h.test" {
		t.Error(x.Request.Host)
	}
}

func TestNobodyIsGoneBackThroughForEver(t *testing.T) {
	for _, fields := range []string{"For: 6.6.6.6" + strings.Repeat(", 10.0.0.2", MaxProxies), "Std: for=6.6.6.6" + strings.Repeat(", for=10.0.0.2", MaxProxies)} {
		x := from(t, "10.0.0.1", fields, exchange.Forwarding{Fields: exchange.BothForwardedFields})
		if Apply(x); x.ClientText != "10.0.0.2" {
			t.Errorf("%.20s: %s", fields, x.ClientText)
		}
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	x := from(t, "10.0.0.1", "For: 6.6.6.6, [2001:db8::7]:80, 10.0.0.2\nProto: https\nStd: for=6.6.6.6, for=\"[2001:db8::7]:80\";proto=https, for=10.0.0.2", exchange.Forwarding{Fields: exchange.BothForwardedFields})
	fields := append([]exchange.Field(nil), x.Request.Header.Fields()...)
	peer := x.Peer
	n := testing.AllocsPerRun(100, func() {
		x.From(peer)
		x.Forwarded = exchange.ForwardedValues{}
		x.Request.Header.Reset()
		for _, f := range fields {
			x.Request.Header.Append(f)
		}
		Apply(x)
	})
	if n != 0 || x.ClientText != "2001:db8::7" {
		t.Errorf("%v allocations; %s", n, x.ClientText)
	}
}

// check holds what came of hostile fields against what may never happen: the client is the peer, or an address that the
// fields spell, and what services are told leads to the same client when it is read again.
func check(t *testing.T, name, value string, settings exchange.Forwarding) {
	x := from(t, "10.0.0.1", "", settings)
	x.Request.Header.Add(name, value)
	Apply(x)
	a := x.Client.Addr()
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() || x.ClientText != a.String() {
		t.Fatalf("%q: %s, %q", value, a, x.ClientText)
	}
	if strings.ContainsAny(x.ForwardedFor()+x.Forwarded.Standard+x.ForwardedHost(), "\r\n\x00") {
		t.Fatalf("%q: %q, %q", value, x.ForwardedFor(), x.Forwarded.Standard)
	}
	told := x.ForwardedFor()
	if x.Forwarded.OmitXForwarded {
		told = x.Forwarded.Standard
	}
	again := from(t, "10.0.0.9", "", settings)
	again.Request.Header.Add(name, told)
	Apply(again)
	if again.Client.Addr() != a && strings.Count(told, ",") < MaxProxies-1 {
		t.Fatalf("%q: %s; %q: %s", value, a, told, again.Client)
	}
}

func FuzzXForwardedFor(f *testing.F) {
	for _, test := range cases {
		f.Add(test.fields)
	}
	f.Fuzz(func(t *testing.T, value string) { check(t, "X-Forwarded-For", value, exchange.Forwarding{}) })
}

func FuzzForwarded(f *testing.F) {
	for _, test := range cases {
		_, value, _ := strings.Cut(test.fields, ": ")
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		check(t, "Forwarded", value, exchange.Forwarding{Fields: exchange.ForwardedField})
	})
}
