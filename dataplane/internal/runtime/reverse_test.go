package runtime

import (
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
)

func TestReversal(t *testing.T) {
	x := &exchange.Exchange{}
	x.Scheme = "https"
	x.Endpoint = "10.0.0.1:8080"
	x.Request.Host, x.Forward.Host = "shop.test", "inner.test"
	strip := reversal{x, "/shop", ""}
	move := reversal{x, "/shop", "/v2"}
	deeper := reversal{x, "/shop", "/shop/v2"}
	same := reversal{x, "", ""}
	below := reversal{x, "", "/v2"}
	for _, c := range []struct {
		v        reversal
		of       func(v *reversal, s string) string
		in, want string
	}{
		{strip, (*reversal).reference, "/login", "/shop/login"},
		{strip, (*reversal).reference, "/", "/shop/"},
		{strip, (*reversal).reference, "/?a=/b", "/shop/?a=/b"},
		{strip, (*reversal).reference, "/shop/login", "/shop/login"},
		{strip, (*reversal).reference, "/shopping", "/shop/shopping"},
		{strip, (*reversal).reference, "login", "login"},
		{strip, (*reversal).reference, "../login", "../login"},
		{strip, (*reversal).reference, "?a", "?a"},
		{strip, (*reversal).reference, "", ""},
		{strip, (*reversal).reference, "http://inner.test/login", "https://shop.test/shop/login"},
		{strip, (*reversal).reference, "http://INNER.test:80", "https://shop.test/shop/"},
		{strip, (*reversal).reference, "http://10.0.0.1:8080/a", "https://shop.test/shop/a"},
		{strip, (*reversal).reference, "https://shop.test/shop/a", "https://shop.test/shop/a"},
		{strip, (*reversal).reference, "//inner.test/a", "https://shop.test/shop/a"},
		{strip, (*reversal).reference, "https://other.test/a", "https://other.test/a"},
		{strip, (*reversal).reference, "https://inner.test.evil.test/a", "https://inner.test.evil.test/a"},
		{strip, (*reversal).reference, "https://inner.test@evil.test/a", "https://inner.test@evil.test/a"},
		{strip, (*reversal).reference, "mailto:a@inner.test", "mailto:a@inner.test"},
		{strip, (*reversal).reference, "ftp://inner.test/a", "ftp://inner.test/a"},
		{move, (*reversal).reference, "/v2/a", "/shop/a"},
		{move, (*reversal).reference, "/v2", "/shop"},
		{move, (*reversal).reference, "/v22/a", "/v22/a"},
		{move, (*reversal).reference, "/a", "/a"},
		{deeper, (*reversal).reference, "/shop/v2/a", "/shop/a"},
		{deeper, (*reversal).reference, "/shop/a", "/shop/a"},
		{below, (*reversal).reference, "/v2/a", "/a"},
		{below, (*reversal).reference, "/v2", "/"},
		{below, (*reversal).reference, "/v2?a", "/?a"},
		{below, (*reversal).reference, "/v2//evil.test/", "/.//evil.test/"},
		{below, (*reversal).reference, `/v2/\evil.test/`, `/./\evil.test/`},
		{below, (*reversal).reference, "/v2/\t/evil.test/", "/./\t/evil.test/"},
		{below, (*reversal).reference, "http://inner.test/v2", "https://shop.test/"},
		{below, (*reversal).refresh, "5; url=/v2//evil.test", "5; url=/.//evil.test"},
		{below, (*reversal).cookie, "a=b; Path=/v2; Secure", "a=b; Path=/; Secure"},
		{below, (*reversal).cookie, "a=b; Path=/v2/", "a=b; Path=/"},
		{same, (*reversal).reference, "http://inner.test/a", "https://shop.test/a"},
		{same, (*reversal).reference, "http://inner.test", "https://shop.test"},
		{strip, (*reversal).refresh, "5; url=/a", "5; url=/shop/a"},
		{strip, (*reversal).refresh, "0;URL='/a'", "0;URL='/shop/a'"},
		{strip, (*reversal).refresh, `0;url="http://inner.test/a"`, `0;url="https://shop.test/shop/a"`},
		{strip, (*reversal).refresh, "5", "5"},
		{strip, (*reversal).refresh, "5; url=", "5; url="},
		{strip, (*reversal).cookie, "a=b", "a=b"},
		{strip, (*reversal).cookie, "a=b; Path=/", "a=b; Path=/shop"},
		{strip, (*reversal).cookie, "a=/; path=/x/; Secure", "a=/; path=/shop/x/; Secure"},
		{strip, (*reversal).cookie, "a=b; Path=/shop; HttpOnly", "a=b; Path=/shop; HttpOnly"},
		{strip, (*reversal).cookie, "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"},
		{strip, (*reversal).cookie, "a=b; Domain=inner.test; Path=/x", "a=b; Path=/shop/x"},
		{strip, (*reversal).cookie, "a=b; Domain=.inner.test", "a=b"},
		{strip, (*reversal).cookie, "a=b; Domain=test; Path", "a=b; Domain=test; Path"},
		{move, (*reversal).cookie, "a=b; Path=/v2", "a=b; Path=/shop"},
		{move, (*reversal).cookie, "a=b; Path=/", "a=b; Path=/"},
		{strip, (*reversal).cookie, ";;path=/", ";;path=/shop"},
	} {
		if got := c.of(&c.v, c.in); got != c.want {
			t.Errorf("%q after %q for %q: %q instead of %q", c.in, c.v.inner, c.v.outer, got, c.want)
		}
	}
}

// Whatever a service says, nothing is reversed to a host that it did not name, and nothing gets a control character.
func FuzzReversal(f *testing.F) {
	for _, s := range []string{"/a", "http://inner.test/a", "//inner.test", "5; url='/a'", "a=b; Path=/; Domain=inner.test", "https:////x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		x := &exchange.Exchange{}
		x.Scheme = "https"
		x.Request.Host, x.Forward.Host = "shop.test", "inner.test"
		v := reversal{x, "/shop", ""}
		ref := v.reference(s)
		if len(ref) > len(s)+len("https://shop.test/shop/") {
			t.Errorf("%q became %q", s, ref)
		}
		if again := v.reference(ref); again != ref && len(s) > 0 && s[0] == '/' && len(s) > 1 && s[1] != '/' {
			t.Errorf("%q became %q, and then %q", s, ref, again)
		}
		_, _ = v.refresh(s), v.cookie(s)
		below := reversal{x, "", "/v2"}
		ref = below.reference("/v2" + s)
		if ref == "" || ref[0] != '/' || len(ref) > 1 && strings.IndexByte("/\\\t", ref[1]) >= 0 {
			t.Errorf("%q became %q, which leads to another host", "/v2"+s, ref)
		}
	})
}
