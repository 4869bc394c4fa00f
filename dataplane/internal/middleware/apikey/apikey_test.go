package apikey

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/consumer/consumertest"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/credential"
	"gateway.internal/shared/fault"
)

const (
	good    = "a-key-that-is-good"
	other   = "a-key-of-another-one"
	off     = "a-key-that-is-off"
	expired = "a-key-that-has-expired"
	ends    = "a-key-that-ends-soon"
)

var now = time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)

func consumers(t testing.TB) *consumer.Set {
	shop := &configv1.Consumer{Name: "shop", Groups: []string{"eu"}, Credentials: &configv1.Credentials{
		ApiKeys: []*configv1.APIKey{
			{Name: "good", Key: proto.String(good)}, {Name: "off", Key: proto.String(off), Active: proto.Bool(false)},
			{Name: "expired", Key: proto.String(expired), ExpiresAt: timestamppb.New(now)},
			{Name: "ends", Key: proto.String(ends), ExpiresAt: timestamppb.New(now.Add(1))},
		},
	}}
	return consumertest.Set(t, nil, shop, &configv1.Consumer{Name: "other", Credentials: &configv1.Credentials{
		ApiKeys: []*configv1.APIKey{{Name: "key", Key: proto.String(other)}},
	}})
}

func newStep(t testing.TB, settings *middlewarev1.ApiKey, all func() *consumer.Set) pipeline.Step {
	t.Helper()
	s, err := New(settings, consumertest.Environment("api_key", all, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request is an exchange with fields "Name: value", whose first part is the target.
func request(x *exchange.Exchange, target string, fields ...string) {
	x.Reset()
	x.Request.Path, x.Request.RawQuery, x.Request.HasQuery = strings.Cut(target, "?")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.Request.Header.Append(exchange.Field{Name: name, Value: value, Odd: exchange.OddName(name)})
	}
}

// left is what the service sees of a request.
func left(x *exchange.Exchange) string {
	out := x.Request.Path
	if x.Request.HasQuery {
		out += "?" + x.Request.RawQuery
	}
	for name, value := range x.Request.Header.All() {
		out += "|" + name + ": " + value
	}
	return out
}

func TestKeys(t *testing.T) {
	all := consumers(t)
	everywhere := &middlewarev1.ApiKey{Headers: []string{"X-Key", "Authorization"}, Query: []string{"api_key"},
		Cookie: []string{"key"}, ConsumerHeader: "X-Consumer"}
	optional := &middlewarev1.ApiKey{Optional: true, ConsumerHeader: "X-Consumer"}
	for _, c := range []struct {
		name     string
		settings *middlewarev1.ApiKey
		target   string
		fields   []string
		code     fault.Code // empty: it passes
		left     string     // where it passes
		consumer string
	}{
		{"in the default field", &middlewarev1.ApiKey{}, "/a", []string{"x-api-key: " + good, "B: c"}, "", "/a|B: c", "shop"},
		{"in a field", everywhere, "/a?b=c", []string{"X-Key: " + good}, "", "/a?b=c|X-Consumer: shop", "shop"},
		{"in Authorization", everywhere, "/a", []string{"Authorization: apikey  " + good}, "", "/a|X-Consumer: shop", "shop"},
		{"in the query", everywhere, "/a?b=c&api_key=" + good + "&d", nil, "", "/a?b=c&d|X-Consumer: shop", "shop"},
		{"alone in the query", everywhere, "/a?api_key=" + good, nil, "", "/a|X-Consumer: shop", "shop"},
		{"encoded in the query", everywhere, "/a?api%5fkey=a%2dkey-that-is-good", nil, "", "/a|X-Consumer: shop", "shop"},
		{"in a cookie", everywhere, "/a", []string{"Cookie: a=b; key=" + good + ";c=d"}, "",
			"/a|Cookie: a=b; c=d|X-Consumer: shop", "shop"},
		{"in a cookie with quotes", everywhere, "/a", []string{`Cookie: key="` + good + `"`}, "",
			"/a|X-Consumer: shop", "shop"},
		{"in one of two fields Cookie", everywhere, "/a", []string{"Cookie: a=b", "Cookie: key=" + good}, "",
			"/a|Cookie: a=b|X-Consumer: shop", "shop"},
		{"twice the same", everywhere, "/a?api_key=" + good, []string{"X-Key: " + good, "X-Key: " + good}, "",
			"/a|X-Consumer: shop", "shop"},
		{"passed on", &middlewarev1.ApiKey{ForwardCredentials: true}, "/a", []string{"X-Api-Key: " + good}, "",
			"/a|X-Api-Key: " + good, "shop"},
		{"ends soon", &middlewarev1.ApiKey{}, "/a", []string{"X-Api-Key: " + ends}, "", "/a", "shop"},

		{"none", everywhere, "/a", nil, fault.MissingAPIKey, "", ""},
		{"unknown", everywhere, "/a", []string{"X-Key: another-key-than-that"}, fault.InvalidAPIKey, "", ""},
		{"a part of one", everywhere, "/a", []string{"X-Key: " + good[:len(good)-1]}, fault.InvalidAPIKey, "", ""},
		{"in another case", everywhere, "/a", []string{"X-Key: " + strings.ToUpper(good)}, fault.InvalidAPIKey, "", ""},
		{"the hash of one", everywhere, "/a", []string{"X-Key: " + credential.StoredKey(good)}, fault.InvalidAPIKey, "", ""},
		{"empty", everywhere, "/a", []string{"X-Key: "}, fault.InvalidAPIKey, "", ""},
		{"too long", everywhere, "/a", []string{"X-Key: " + strings.Repeat("k", 5000)}, fault.InvalidAPIKey, "", ""},
		{"that can't be decoded", everywhere, "/a?api_key=%zz", nil, fault.InvalidAPIKey, "", ""},
		{"switched off", everywhere, "/a", []string{"X-Key: " + off}, fault.InactiveAPIKey, "", ""},
		{"expired", everywhere, "/a", []string{"X-Key: " + expired}, fault.InactiveAPIKey, "", ""},
		{"two in one field", everywhere, "/a", []string{"X-Key: " + good + ", " + other}, fault.InvalidAPIKey, "", ""},
		{"two in fields of one name", everywhere, "/a", []string{"X-Key: " + good, "X-Key: " + other},
			fault.InvalidAPIKey, "", ""},
		{"two in two places", everywhere, "/a?api_key=" + other, []string{"X-Key: " + good}, fault.InvalidAPIKey, "", ""},
		{"two in the query", everywhere, "/a?api_key=" + other + "&api_key=" + good, nil, fault.InvalidAPIKey, "", ""},
		{"two cookies", everywhere, "/a", []string{"Cookie: key=" + other + "; key=" + good}, fault.InvalidAPIKey, "", ""},
		{"good and an empty one", everywhere, "/a?api_key=", []string{"X-Key: " + good}, fault.InvalidAPIKey, "", ""},
		{"in another field", everywhere, "/a", []string{"X-Api-Key: " + good}, fault.MissingAPIKey, "", ""},
		{"in the path", everywhere, "/" + good, nil, fault.MissingAPIKey, "", ""},
		{"of another scheme", everywhere, "/a", []string{"Authorization: Bearer " + good}, fault.MissingAPIKey, "", ""},
		{"without a scheme", everywhere, "/a", []string{"Authorization: " + good}, fault.MissingAPIKey, "", ""},
		{"in the query where it is not looked for", &middlewarev1.ApiKey{}, "/a?X-Api-Key=" + good, nil,
			fault.MissingAPIKey, "", ""},

		{"optional", optional, "/a", []string{"X-Consumer: shop", "X_Consumer: shop"}, "", "/a", ""},
		{"optional and wrong", optional, "/a", []string{"X-Api-Key: wrong"}, fault.InvalidAPIKey, "", ""},
		{"excluded", &middlewarev1.ApiKey{ExcludePaths: []string{"/public/*"}, ConsumerHeader: "X-Consumer"}, "/public/a",
			[]string{"X-Consumer: shop"}, "", "/public/a", ""},
		{"forged name", everywhere, "/a", []string{"X-Consumer: other", "x-consumer: admin", "X-Key: " + good}, "",
			"/a|X-Consumer: shop", "shop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStep(t, c.settings, func() *consumer.Set { return all })
			var x exchange.Exchange
			for range 2 {
				request(&x, c.target, c.fields...)
				v := s.Request(&x)
				if c.code != "" {
					if v != exchange.Stop || x.Response.Code != c.code || x.Response.Status != 401 || x.Principal != nil {
						t.Errorf("%v: %d %s as %v", v, x.Response.Status, x.Response.Code, x.Principal)
					}
					if got := slices.Collect(x.Response.Header.Values("WWW-Authenticate")); !slices.Equal(got, []string{"ApiKey"}) {
						t.Errorf("challenges %q", got)
					}
					if strings.Contains(string(x.Response.Body), "a-key") {
						t.Errorf("the answer has the key: %s", x.Response.Body)
					}
					continue
				}
				if v != exchange.Continue || left(&x) != c.left || x.Consumer() != c.consumer {
					t.Errorf("%v: %s from %q, want %s", v, left(&x), x.Consumer(), c.left)
				}
			}
		})
	}
}

// TestKeysCountAtOnce: a change of consumers counts for the next request, without a step that is made anew.
func TestKeysCountAtOnce(t *testing.T) {
	all := consumers(t)
	s := newStep(t, &middlewarev1.ApiKey{}, func() *consumer.Set { return all })
	passes := func(key string) bool {
		var x exchange.Exchange
		request(&x, "/", "X-Api-Key: "+key)
		return s.Request(&x) == exchange.Continue
	}
	const fresh = "a-key-that-was-just-made"
	if !passes(good) || passes(fresh) {
		t.Fatal("they count too early, or too late")
	}
	all = consumertest.Set(t, all, &configv1.Consumer{Name: "shop", Credentials: &configv1.Credentials{
		ApiKeys: []*configv1.APIKey{{Name: "good", Key: proto.String(fresh)}},
	}})
	if passes(good) || !passes(fresh) || !passes(other) {
		t.Error("the revoked key counts, or the new one does not")
	}
}

// TestRequestDoesNotAllocate, wherever the key is.
func TestRequestDoesNotAllocate(t *testing.T) {
	all := consumers(t)
	s := newStep(t, &middlewarev1.ApiKey{Headers: []string{"X-Key"}, Query: []string{"api_key"}, Cookie: []string{"key"}},
		func() *consumer.Set { return all })
	for _, target := range []string{"/", "/?a=b&api_key=" + good} {
		fields := []string{"Cookie: a=b; key=" + good}
		if target == "/" {
			fields = append(fields, "X-Key: "+good)
		}
		var x exchange.Exchange
		request(&x, target, fields...)
		s.Request(&x)
		texts := x.Texts
		if n := testing.AllocsPerRun(100, func() {
			x.Reset()
			x.Texts = texts[:0]
			x.Request.Path, x.Request.RawQuery, x.Request.HasQuery = strings.Cut(target, "?")
			x.Request.Header.Append(exchange.Field{Name: "Cookie", Value: "a=b; key=" + good})
			x.Request.Header.Append(exchange.Field{Name: "Host", Value: "a"})
			if s.Request(&x) != exchange.Continue {
				t.Error("refused")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", target, n)
		}
	}
}

// BenchmarkKey measures what a request costs with a key in a field, among a thousand and among a million.
func BenchmarkKey(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var keys []*configv1.Consumer
			for i := range n {
				keys = append(keys, &configv1.Consumer{Name: fmt.Sprint("c", i), Credentials: &configv1.Credentials{
					ApiKeys: []*configv1.APIKey{{Name: "k", Key: proto.String(fmt.Sprintf("a-key-of-many-number-%08d", i))}},
				}})
			}
			all := consumertest.Set(b, nil, keys...)
			s := newStep(b, &middlewarev1.ApiKey{}, func() *consumer.Set { return all })
			var sent []string
			for i := range 1024 {
				sent = append(sent, fmt.Sprintf("a-key-of-many-number-%08d", i*7919%n))
			}
			var x exchange.Exchange
			x.Request.Path = "/"
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				x.Principal = nil
				x.Request.Header.Reset()
				x.Request.Header.Append(exchange.Field{Name: "Host", Value: "a"})
				x.Request.Header.Append(exchange.Field{Name: "X-Api-Key", Value: sent[i%len(sent)]})
				if s.Request(&x) != exchange.Continue {
					b.Fatal("refused")
				}
			}
		})
	}
}

// FuzzPlaces: whatever a request has, it is refused or it has the key, and no key is left.
func FuzzPlaces(f *testing.F) {
	f.Add("a=b&api_key="+good, "a=b; key="+good, "ApiKey "+good)
	f.Add("api%5Fkey=x&&=&%zz=1", `key="a;b"`, "apikey")
	all := consumers(f)
	s := newStep(f, &middlewarev1.ApiKey{Headers: []string{"Authorization"}, Query: []string{"api_key"},
		Cookie: []string{"key"}}, func() *consumer.Set { return all })
	f.Fuzz(func(t *testing.T, query, cookie, authorization string) {
		var x exchange.Exchange
		request(&x, "/?"+query, "Cookie: "+cookie, "Authorization: "+authorization)
		if s.Request(&x) != exchange.Continue {
			return
		}
		var again keys
		s.(*step).find(&x, &again)
		if again.key != "" || again.odd {
			t.Errorf("a key is left in %s", left(&x))
		}
	})
}
