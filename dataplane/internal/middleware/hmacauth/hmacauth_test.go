package hmacauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/consumer/consumertest"
	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

const secret = "a secret that the shop shares"

var now = time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)

func consumers(t testing.TB) *consumer.Set {
	t.Helper()
	of := func(name string, ids ...string) *configv1.Consumer {
		c := &configv1.Consumer{Name: name, Credentials: &configv1.Credentials{}}
		for _, id := range ids {
			c.Credentials.Hmac = append(c.Credentials.Hmac, &configv1.HMACCredential{Id: id, Secret: proto.String(secret)})
		}
		return c
	}
	return consumertest.Set(t, nil, of("shop", "k1", "k3"), of("bank", "b1"), of("club", "c1"))
}

func newStep(t testing.TB, settings *middlewarev1.HmacAuth) *step {
	t.Helper()
	all := consumers(t)
	s, err := New(settings, consumertest.Environment("hmac_auth", func() *consumer.Set { return all },
		func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	return s.(*step)
}

// sign returns the signature of a base, made by another implementation than that of the step.
func sign(key, base string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(base))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// TestVectorOfRFC9421 is that of appendix B.2.5, whose secret is binary.
func TestVectorOfRFC9421(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString(
		"uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
	if err != nil {
		t.Fatal(err)
	}
	var x exchange.Exchange
	x.Scheme, x.Request.Host = "https", "EXAMPLE.com:443"
	x.Request.Header.Add("Date", "Tue, 20 Apr 2021 02:07:55 GMT")
	x.Request.Header.Add("Content-Type", " application/json ")
	const params = `("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`
	var in input
	if found, ok := signatureInput("sig-b25="+params, "", &in); !found || !ok {
		t.Fatal("can't be read")
	}
	base, ok := appendBase(make([]byte, blockBytes), &x, &in)
	want := "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\"content-type\": application/json\n" +
		"\"@signature-params\": " + params
	if !ok || string(base[blockBytes:]) != want {
		t.Fatalf("the base is\n%s", base[blockBytes:])
	}
	encoded, ok := byteSequence("sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:", "sig-b25")
	if !ok || !signs(encoded, string(key), base) || signs(encoded, string(key[1:]), base) {
		t.Error("the signature does not verify, or another key's does")
	}
	if long := strings.Repeat("k", 100); !signs(sign(long, want), long, base) {
		t.Error("a key that is longer than a block")
	}
}

// message is a request that is to be signed.
type message struct {
	method, path, query, host, scheme string
	components, params                string
	length                            int64
	fields                            []string
}

func (m message) exchange() *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Scheme = m.scheme
	r := &x.Request
	r.Method, r.Path, r.RawQuery, r.HasQuery = m.method, m.path, m.query, m.query != ""
	r.Host, r.ContentLength = m.host, m.length
	for _, f := range m.fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Append(exchange.Field{Name: name, Value: value})
	}
	r.Header.Append(exchange.Field{Name: "X-Consumer", Value: "forged"})
	return x
}

// signed returns the request with a signature.
func (m message) signed(key string) *exchange.Exchange {
	var base strings.Builder
	names := strings.Fields(m.components)
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = `"` + name + `"`
		value := map[string]string{
			"@method": m.method, "@path": m.path, "@query": "?" + m.query, "@authority": m.host, "@scheme": m.scheme,
			"@target-uri": m.scheme + "://" + m.host + m.path + "?" + m.query, "@request-target": m.path + "?" + m.query,
		}[name]
		for _, f := range m.fields {
			if field, v, _ := strings.Cut(f, ": "); strings.EqualFold(field, name) {
				value = v
			}
		}
		fmt.Fprintf(&base, "%s: %s\n", quoted[i], value)
	}
	params := "(" + strings.Join(quoted, " ") + ")" + m.params
	base.WriteString(`"@signature-params": ` + params)
	x := m.exchange()
	x.Request.Header.Append(exchange.Field{Name: "Signature-Input", Value: "sig=" + params})
	x.Request.Header.Append(exchange.Field{Name: "Signature", Value: "sig=:" + sign(key, base.String()) + ":"})
	return x
}

const four = "@method @authority @path @query"

func of(components, params string) message {
	return message{method: "GET", path: "/a", query: "b=c", host: "shop.test", scheme: "https", components: components,
		params: params, fields: []string{"X-A: b", `Content-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:`}}
}

func at(age time.Duration) string {
	return fmt.Sprintf(`;created=%d;keyid="k1"`, now.Add(-age).Unix())
}

func TestSignatures(t *testing.T) {
	digest := &middlewarev1.HmacAuth{Components: []string{"content-digest"}}
	without := func(name string) func(x *exchange.Exchange) {
		return func(x *exchange.Exchange) { x.Request.Header.Del(name) }
	}
	for _, c := range []struct {
		name     string
		settings *middlewarev1.HmacAuth
		message  message
		key      string
		change   func(x *exchange.Exchange)
		passes   bool
	}{
		{"right", nil, of(four, at(0)), secret, nil, true},
		{"of everything", nil, of(four+" @scheme @target-uri @request-target x-a", at(0)), secret, nil, true},
		{"with an algorithm", nil, of(four, at(0)+`;alg="hmac-sha256"`), secret, nil, true},
		{"with a tag", nil, of(four, at(0)+`;tag="app"`), secret, nil, true},
		{"that ends", nil, of(four, at(0)+fmt.Sprintf(";expires=%d", now.Unix()+1)), secret, nil, true},
		{"of a field alone", &middlewarev1.HmacAuth{Components: []string{"x-a"}}, of("x-a", at(0)), secret, nil, true},
		{"of a digest of nothing", digest, of("content-digest", at(0)), secret, nil, true},
		{"without a digest of nothing", digest, of("x-a", at(0)), secret, nil, true},
		{"as old as it may be", nil, of(four, at(5*time.Minute+30*time.Second)), secret, nil, true},

		{"another secret", nil, of(four, at(0)), secret + "!", nil, false},
		{"unknown id", nil, of(four, strings.Replace(at(0), "k1", "k2", 1)), secret, nil, false},
		{"no id", nil, of(four, fmt.Sprintf(";created=%d", now.Unix())), secret, nil, false},
		{"no time", nil, of(four, `;keyid="k1"`), secret, nil, false},
		{"time as a text", nil, of(four, fmt.Sprintf(`;created="%d";keyid="k1"`, now.Unix())), secret, nil, false},
		{"too old", nil, of(four, at(5*time.Minute+31*time.Second)), secret, nil, false},
		{"of the future", nil, of(four, at(-31*time.Second)), secret, nil, false},
		{"expired", nil, of(four, at(0)+fmt.Sprintf(";expires=%d", now.Unix()-30)), secret, nil, false},
		{"another algorithm", nil, of(four, at(0)+`;alg="rsa-pss-sha512"`), secret, nil, false},
		{"no algorithm", nil, of(four, at(0)+`;alg="none"`), secret, nil, false},
		{"covers too little", nil, of("@method @authority @path", at(0)), secret, nil, false},
		{"covers nothing", nil, of("", at(0)), secret, nil, false},
		{"covers something twice", nil, of(four+" x-a x-a", at(0)), secret, nil, false},
		{"covers what is not there", nil, of(four+" x-b", at(0)), secret, nil, false},
		{"covers what is not known", nil, of(four+" @status", at(0)), secret, nil, false},
		{"a parameter twice", nil, of(four, at(0)+`;keyid="k1"`), secret, nil, false},
		{"a digest of something else", nil, func() message {
			m := of(four+" content-digest", at(0))
			m.fields = []string{`Content-Digest: sha-256=:` + base64.StdEncoding.EncodeToString(make([]byte, 32)) + `:`}
			return m
		}(), secret, nil, false},
		{"a body without a digest", &middlewarev1.HmacAuth{Components: []string{"content-digest", "x-a"}}, func() message {
			m := of("x-a", at(0))
			m.length = 5
			return m
		}(), secret, nil, false},
		{"another method", nil, of(four, at(0)), secret, func(x *exchange.Exchange) { x.Request.Method = "DELETE" }, false},
		{"another path", nil, of(four, at(0)), secret, func(x *exchange.Exchange) { x.Request.Path = "/admin" }, false},
		{"another query", nil, of(four, at(0)), secret, func(x *exchange.Exchange) { x.Request.RawQuery = "b=d" }, false},
		{"another host", nil, of(four, at(0)), secret, func(x *exchange.Exchange) { x.Request.Host = "other.test" }, false},
		{"a value more", nil, of(four+" x-a", at(0)), secret, func(x *exchange.Exchange) {
			x.Request.Header.Add("X-A", "c")
		}, false},
		{"two fields Signature", nil, of(four, at(0)), secret, func(x *exchange.Exchange) {
			x.Request.Header.Add("Signature", "sig=:AAAA:")
		}, false},
		{"two signatures", nil, of(four, at(0)), secret, func(x *exchange.Exchange) {
			x.Request.Header.Map("Signature-Input", func(v string) string { return v + `, other=("@method");keyid="k1"` })
		}, false},
		{"an input without a signature", nil, of(four, at(0)), secret, without("Signature"), false},
		{"a signature without an input", nil, of(four, at(0)), secret, without("Signature-Input"), false},
		{"none", nil, of(four, at(0)), secret, func(x *exchange.Exchange) {
			x.Request.Header.Del("Signature")
			x.Request.Header.Del("Signature-Input")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			settings := c.settings
			if settings == nil {
				settings = &middlewarev1.HmacAuth{}
			}
			settings.ConsumerHeader = "X-Consumer"
			s := newStep(t, settings)
			x := c.message.signed(c.key)
			if c.change != nil {
				c.change(x)
			}
			switch v := s.Request(x); {
			case c.passes:
				_, there := x.Request.Header.Lookup("Signature")
				if v != exchange.Continue || x.Consumer() != "shop" || there || x.Request.Header.Get("X-Consumer") != "shop" {
					t.Errorf("%v: %s %v", v, x.Response.Message, x.Request.Header.Fields())
				}
			case v != exchange.Stop || x.Response.Status != 401 || x.Response.Code != fault.Unauthenticated ||
				x.Principal != nil:
				t.Errorf("%v: %d %s", v, x.Response.Status, x.Response.Code)
			}
		})
	}
}

// TestReplays: a signature with a nonce counts once as long as it could count, and what is remembered is bounded.
func TestReplays(t *testing.T) {
	defer func(before time.Time) { now = before }(now)
	s := newStep(t, &middlewarev1.HmacAuth{Nonce: true, MaxNonces: 6})
	ask := func(nonce string, at time.Time) *exchange.Exchange {
		x := of(four, fmt.Sprintf(`;created=%d;keyid="k1";nonce="%s"`, at.Unix(), nonce)).signed(secret)
		s.Request(x)
		return x
	}
	first := now
	if ask("a", first).Principal == nil || ask("b", first).Principal == nil {
		t.Fatal("refused")
	}
	for range 2 {
		if x := ask("a", first); x.Principal != nil || x.Response.Status != 401 {
			t.Errorf("it counts twice: %d", x.Response.Status)
		}
		now = now.Add(5 * time.Minute) // nearly all of its time
	}
	now = first.Add(5*time.Minute + 29*time.Second)
	if ask("b", first).Principal != nil {
		t.Error("it counts again at its end")
	}
	if ask("c", now).Principal == nil {
		t.Error("half of it is three")
	}
	if x := ask("d", now); x.Principal != nil || x.Response.Status != 503 {
		t.Errorf("half of it is four: %d", x.Response.Status)
	}
	now = now.Add(time.Hour)
	if ask("a", now).Principal == nil {
		t.Error("what is over is remembered")
	}
	x := of(four, at(0)).signed(secret)
	if s.Request(x) != exchange.Stop {
		t.Error("it counts without a nonce")
	}
}

// TestNobodyFillsMemoryForOthers: a consumer that signs without end, with all of its keys, leaves room for others, and
// two that do for a third one. All together stay within the bound, also over the turn of a period.
func TestNobodyFillsMemoryForOthers(t *testing.T) {
	defer func(before time.Time) { now = before }(now)
	const most = 100
	s := newStep(t, &middlewarev1.HmacAuth{Nonce: true, MaxNonces: most})
	count := 0
	ask := func(id string) bool {
		count++
		x := of(four, fmt.Sprintf(`;created=%d;keyid="%s";nonce="%d"`, now.Unix(), id, count)).signed(secret)
		return s.Request(x) == exchange.Continue
	}
	flood := func(ids ...string) (passed int) {
		for i := range 3 * most {
			if ask(ids[i%len(ids)]) {
				passed++
			}
		}
		return passed
	}
	if n := flood("k1", "k3"); n != most/2 {
		t.Errorf("%d of one consumer", n)
	}
	if n := flood("b1"); n != most/4 {
		t.Errorf("%d of the second one", n)
	}
	now = now.Add(7 * time.Minute) // the next period: those of the one before are still held
	if n := flood("k1", "k3"); n != 0 {
		t.Errorf("%d more of the one that has most", n)
	}
	if !ask("c1") {
		t.Error("no room for the third one")
	}
	flood("k1", "b1", "c1")
	if n := len(s.seen.Value().new.seen) + len(s.seen.Value().old.seen); n >= most {
		t.Errorf("%d are remembered", n)
	}
}

// TestWrongSignaturesAreNotRemembered: nobody without a secret fills memory.
func TestWrongSignaturesAreNotRemembered(t *testing.T) {
	s := newStep(t, &middlewarev1.HmacAuth{Nonce: true})
	s.Request(of(four, at(0)+`;nonce="n"`).signed("another secret"))
	if n := len(s.seen.Value().new.seen); n != 0 {
		t.Errorf("%d are remembered", n)
	}
}

// TestAgeAndSkewAlike: a signature counts for max_age, and the clocks' difference, where both are the same text.
func TestAgeAndSkewAlike(t *testing.T) {
	s := newStep(t, &middlewarev1.HmacAuth{MaxAge: "10s", ClockSkew: "10s"})
	for age, passes := range map[int64]bool{19: true, 21: false, -9: true, -11: false} {
		x := of(four, fmt.Sprintf(`;created=%d;keyid="k1"`, now.Unix()-age)).signed(secret)
		if got := s.Request(x) == exchange.Continue; got != passes {
			t.Errorf("created %d s ago: it passes: %t", age, got)
		}
	}
}

func TestRequestDoesNotAllocate(t *testing.T) {
	s := newStep(t, &middlewarev1.HmacAuth{})
	x := of(four, at(0)).signed(secret)
	fields := append([]exchange.Field(nil), x.Request.Header.Fields()...)
	r := x.Request
	if n := testing.AllocsPerRun(100, func() {
		texts := x.Texts[:0]
		x.Reset()
		x.Texts, x.Scheme = texts, "https"
		x.Request.Method, x.Request.Path, x.Request.RawQuery, x.Request.Host = r.Method, r.Path, r.RawQuery, r.Host
		x.Request.HasQuery = true
		for _, f := range fields {
			x.Request.Header.Append(f)
		}
		if s.Request(x) != exchange.Continue {
			t.Error("refused: " + x.Response.Message)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzFields: whatever the fields are, they are read or not, and what is read is written as it was.
func FuzzFields(f *testing.F) {
	f.Add(`sig=("@method" "x-a");created=1;keyid="k1", b=()`, `sig=:AAAA:, b=:::`)
	f.Add(`sig=("a";sf)`, `sig=:AA`)
	f.Fuzz(func(t *testing.T, inputs, signatures string) {
		byteSequence(signatures, "sig")
		var in input
		if found, ok := signatureInput(inputs, "", &in); !found || !ok {
			return
		}
		written := in.label + "=" + string(in.appendParams(nil))
		var again input
		if found, ok := signatureInput(written, in.label, &again); !found || !ok || again != in {
			t.Errorf("%q is written as %q", inputs, written)
		}
	})
}

func BenchmarkSignature(b *testing.B) {
	s := newStep(b, &middlewarev1.HmacAuth{ForwardCredentials: true})
	x := of(four, at(0)).signed(secret)
	b.ReportAllocs()
	for b.Loop() {
		x.Principal, x.Texts = nil, x.Texts[:0]
		if s.Request(x) != exchange.Continue {
			b.Fatal("refused")
		}
	}
}
