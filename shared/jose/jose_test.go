package jose

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"
)

// signer signs tokens as somebody may who has its key.
type signer struct {
	key    any
	public any // what is published; for symmetric keys the key
}

// rsaKeys take long to make.
var (
	rsaKeys = [2]func() *rsa.PrivateKey{sync.OnceValue(rsaKey), sync.OnceValue(rsaKey)}
	rsaNext atomic.Uint32
)

func rsaKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// newSigner returns a new key; of RSA keys there are two in turn.
func newSigner(t testing.TB, alg string) signer {
	t.Helper()
	var s signer
	var err error
	switch alg {
	case "ES256":
		var k *ecdsa.PrivateKey
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s = signer{k, &k.PublicKey}
	case "ES384":
		var k *ecdsa.PrivateKey
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		s = signer{k, &k.PublicKey}
	case "ES512":
		var k *ecdsa.PrivateKey
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		s = signer{k, &k.PublicKey}
	case "EdDSA", "Ed25519":
		var k ed25519.PrivateKey
		var public ed25519.PublicKey
		public, k, err = ed25519.GenerateKey(rand.Reader)
		s = signer{k, public}
	case "HS256", "HS384", "HS512":
		k := make([]byte, 64)
		_, err = rand.Read(k)
		s = signer{k, k}
	default:
		k := rsaKeys[rsaNext.Add(1)%uint32(len(rsaKeys))]()
		s = signer{k, &k.PublicKey}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func part(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func (s signer) sign(t testing.TB, header, payload string) string {
	t.Helper()
	var h struct{ Alg string }
	_ = json.Unmarshal([]byte(header), &h)
	signed := part(header) + "." + part(payload)
	signature, err := jwsbb.Sign(s.key, h.Alg, []byte(signed), nil)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// jwk returns the key as it is published, with more members.
func (s signer) jwk(t testing.TB, more string) string {
	t.Helper()
	k, err := jwk.Import(s.public)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	if more != "" {
		more = "," + more
	}
	return strings.TrimSuffix(string(text), "}") + more + "}"
}

func setOf(t testing.TB, symmetric bool, keys ...string) *Set {
	t.Helper()
	s, problems, err := ParseSet([]byte(`{"keys":[`+strings.Join(keys, ",")+`]}`), symmetric)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return s
}

func check(s *Set, text string) *Refusal {
	token, refusal := Parse(text)
	if refusal == nil {
		_, refusal = s.Verify(token)
	}
	return refusal
}

// TestEveryAlgorithmVerifies verifies what a key of each kind has signed, and refuses that under each other name of an
// algorithm.
func TestEveryAlgorithmVerifies(t *testing.T) {
	for _, alg := range Algorithms() {
		s := newSigner(t, alg)
		set := setOf(t, true, s.jwk(t, `"kid":"k"`))
		text := s.sign(t, `{"alg":"`+alg+`","kid":"k"}`, `{"a":1}`)
		if r := check(set, text); r != nil {
			t.Errorf("%s: %v", alg, r)
		}
		pinned := setOf(t, true, s.jwk(t, `"kid":"k","alg":"`+alg+`"`))
		if r := check(pinned, text); r != nil {
			t.Errorf("%s: %v", alg, r)
		}
		_, rest, _ := strings.Cut(text, ".")
		for _, other := range append(Algorithms(), "none", "None", "nOnE", "", "HS1", "ES256K") {
			if other == alg {
				continue
			}
			forged := part(`{"alg":"`+other+`","kid":"k"}`) + "." + rest
			if check(set, forged) == nil || check(pinned, forged) == nil {
				t.Errorf("a signature by %s passes as one by %q", alg, other)
			}
		}
	}
}

// TestAttacks refuses forged tokens: those without a signature, those signed by what everybody knows, and those that
// name or bring their own key.
func TestAttacks(t *testing.T) {
	s, attacker := newSigner(t, "RS256"), newSigner(t, "RS256")
	rsaKey := setOf(t, false, s.jwk(t, `"kid":"k"`))
	claims := `{"sub":"admin"}`
	n := s.public.(*rsa.PublicKey).N.Bytes()
	der := []byte(s.jwk(t, `"kid":"k"`))
	for _, c := range []struct {
		name, token string
		want        Reason
	}{
		{"alg none", part(`{"alg":"none"}`) + "." + part(claims) + ".", UnknownKey},
		{"alg none with a kid", part(`{"alg":"none","kid":"k"}`) + "." + part(claims) + ".", UnknownKey},
		{"alg NONE", part(`{"alg":"NONE","kid":"k"}`) + "." + part(claims) + ".", UnknownKey},
		{"no alg", part(`{"kid":"k"}`) + "." + part(claims) + ".", Malformed},
		{"an alg that is a list", part(`{"alg":["RS256"],"kid":"k"}`) + "." + part(claims) + ".", Malformed},
		{"two algs", part(`{"alg":"RS256","alg":"none","kid":"k"}`) + "." + part(claims) + ".", Malformed},
		{"an empty signature", part(`{"alg":"RS256","kid":"k"}`) + "." + part(claims) + ".", WrongSignature},
		{"HS256 by the modulus", signer{key: n}.sign(t, `{"alg":"HS256","kid":"k"}`, claims), UnknownKey},
		{"HS256 by the published key", signer{key: der}.sign(t, `{"alg":"HS256","kid":"k"}`, claims), UnknownKey},
		{"another key under the kid", attacker.sign(t, `{"alg":"RS256","kid":"k"}`, claims), WrongSignature},
		{"another key without a kid", attacker.sign(t, `{"alg":"RS256"}`, claims), WrongSignature},
		{"a key in the header",
			attacker.sign(t, `{"alg":"RS256","kid":"x","jwk":`+attacker.jwk(t, "")+`}`, claims), UnknownKey},
		{"a URL of keys", attacker.sign(t, `{"alg":"RS256","jku":"http://127.0.0.1/k","kid":"x"}`, claims), UnknownKey},
		{"a URL of certificates",
			attacker.sign(t, `{"alg":"RS256","x5u":"http://127.0.0.1/k","kid":"x"}`, claims), UnknownKey},
		{"a path for a kid", attacker.sign(t, `{"alg":"RS256","kid":"../../dev/null"}`, claims), UnknownKey},
		{"SQL for a kid", attacker.sign(t, `{"alg":"RS256","kid":"k' UNION SELECT 'x"}`, claims), UnknownKey},
		{"an overlong kid", attacker.sign(t, `{"alg":"RS256","kid":"`+strings.Repeat("k", 5000)+`"}`, claims), UnknownKey},
		{"an empty kid", attacker.sign(t, `{"alg":"RS256","kid":""}`, claims), UnknownKey},
		{"a kid that is no text", attacker.sign(t, `{"alg":"RS256","kid":{"$ne":""}}`, claims), Malformed},
		{"critical extensions", s.sign(t, `{"alg":"RS256","kid":"k","crit":["exp"],"exp":1}`, claims), Malformed},
		{"no critical extensions", s.sign(t, `{"alg":"RS256","kid":"k","crit":[]}`, claims), Malformed},
		{"a payload that is not encoded", s.sign(t, `{"alg":"RS256","kid":"k","b64":false}`, claims), Malformed},
		{"an encrypted token", part(`{"alg":"RSA-OAEP","enc":"A128GCM"}`) + ".a.a.a.a", Malformed},
		{"two parts", part(`{"alg":"RS256"}`) + "." + part(claims), Malformed},
		{"a payload that is a text", s.sign(t, `{"alg":"RS256","kid":"k"}`, `"a"`), Malformed},
		{"a claim twice", s.sign(t, `{"alg":"RS256","kid":"k"}`, `{"sub":"a","sub":"b"}`), Malformed},
		{"a claim twice, once with escapes", s.sign(t, `{"alg":"RS256","kid":"k"}`, `{"sub":"a","\u0073ub":"b"}`), Malformed},
		{"half a surrogate pair", s.sign(t, `{"alg":"RS256","kid":"k"}`, `{"sub":"\ud800"}`), Malformed},
		{"bytes that are no UTF-8", s.sign(t, `{"alg":"RS256","kid":"k"}`, "{\"sub\":\"\xff\"}"), Malformed},
		{"objects without end", s.sign(t, `{"alg":"RS256","kid":"k"}`, strings.Repeat(`{"a":`, 2000)), Malformed},
		{"what follows the payload", s.sign(t, `{"alg":"RS256","kid":"k"}`, `{}{}`), Malformed},
		{"a token that is too long", strings.Repeat("e", MaxTokenBytes+1), Malformed},
		{"padding", s.sign(t, `{"alg":"RS256","kid":"k"}`, claims) + "=", Malformed},
		{"a line's end", s.sign(t, `{"alg":"RS256","kid":"k"}`, claims) + "\n", Malformed},
	} {
		if r := check(rsaKey, c.token); r == nil || r.Reason != c.want {
			t.Errorf("%s: %v, want %s", c.name, r, c.want)
		}
	}
	if r := check(rsaKey, s.sign(t, `{"alg":"RS256","kid":"k","jku":"http://127.0.0.1/k"}`, claims)); r != nil {
		t.Errorf("a header that is not followed: %v", r)
	}
}

// TestKeysThatAreNotUsed tells of each key of a set that verifies nothing, and why.
func TestKeysThatAreNotUsed(t *testing.T) {
	r, e, h := newSigner(t, "RS256"), newSigner(t, "ES256"), newSigner(t, "HS256")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short := `{"kty":"RSA","e":"AQAB","n":"` + base64.RawURLEncoding.EncodeToString(small.N.Bytes()) + `"}`
	private, err := jwk.Import(e.key)
	if err != nil {
		t.Fatal(err)
	}
	privateText, _ := json.Marshal(private)
	for _, c := range []struct{ name, key, want string }{
		{"for encryption", r.jwk(t, `"use":"enc"`), "is not for signatures"},
		{"for wrapping", r.jwk(t, `"key_ops":["wrapKey"]`), "is not for signatures"},
		{"an alg of encryption", r.jwk(t, `"alg":"RSA-OAEP"`), "no signature algorithm"},
		{"an alg of another kind", r.jwk(t, `"alg":"ES256"`), "does not fit its own alg"},
		{"an alg of another curve", e.jwk(t, `"alg":"ES384"`), "does not fit its own alg"},
		{"an alg for symmetric keys", e.jwk(t, `"alg":"HS256"`), "does not fit its own alg"},
		{"a symmetric key", h.jwk(t, ""), "is symmetric"},
		{"a short modulus", short, "make no key|1024 bits"},
		{"a private key", string(privateText), "is a private key"},
		{"an unknown kind", `{"kty":"XYZ"}`, "make no key|has no kty"},
		{"another curve", `{"kty":"OKP","crv":"X25519","x":"` + strings.Repeat("A", 43) + `"}`, "has no kty|make no key"},
		{"a long kid", r.jwk(t, `"kid":"`+strings.Repeat("k", 257)+`"`), "has a kid"},
		{"a kid that is a number", r.jwk(t, `"kid":1`), "has a kid"},
	} {
		set, problems, err := ParseSet([]byte(`{"keys":[`+c.key+`]}`), false)
		if err != nil || set.Len() != 0 || len(problems) != 1 {
			t.Errorf("%s: %d keys, %v, %v", c.name, set.Len(), problems, err)
			continue
		}
		found := false
		for want := range strings.SplitSeq(c.want, "|") {
			found = found || strings.Contains(problems[0].Err.Error(), want)
		}
		if !found {
			t.Errorf("%s: %v, want %s", c.name, problems[0].Err, c.want)
		}
	}
}

// TestSets has one key for each kid that a token may be verified by.
func TestSets(t *testing.T) {
	r, other, e, h := newSigner(t, "RS256"), newSigner(t, "RS256"), newSigner(t, "ES256"), newSigner(t, "HS256")
	for _, c := range []struct {
		name, keys string
		symmetric  bool
		keep       int
		err        string
	}{
		{name: "one kid, different kinds", keys: r.jwk(t, `"kid":"k"`) + "," + e.jwk(t, `"kid":"k"`), keep: 2},
		{name: "one kid, different algs",
			keys: r.jwk(t, `"kid":"k","alg":"RS256"`) + "," + other.jwk(t, `"kid":"k","alg":"PS256"`), keep: 2},
		{name: "one kid twice", keys: r.jwk(t, `"kid":"k"`) + "," + other.jwk(t, `"kid":"k"`), keep: 0},
		{name: "the same key twice", keys: r.jwk(t, `"kid":"k"`) + "," + r.jwk(t, `"kid":"k"`), keep: 1},
		{name: "no kid", keys: r.jwk(t, "") + "," + other.jwk(t, ""), keep: 2},
		{name: "symmetric and public", keys: r.jwk(t, "") + "," + h.jwk(t, ""), symmetric: true, err: "together"},
		{name: "too many", keys: strings.Repeat("{},", MaxKeys) + "{}", err: "more than 100"},
		{name: "a key that is none", keys: "1", err: "no object"},
	} {
		set, _, err := ParseSet([]byte(`{"keys":[`+c.keys+`]}`), c.symmetric)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || set.Len() != c.keep {
			t.Errorf("%s: %d keys, %v", c.name, set.Len(), err)
		}
	}
}

// TestTokensWithoutKid are verified by the few keys that fit, and not by more.
func TestTokensWithoutKid(t *testing.T) {
	s := newSigner(t, "ES256")
	keys := []string{s.jwk(t, `"kid":"0"`)}
	text := s.sign(t, `{"alg":"ES256"}`, `{}`)
	for i := 1; i < 4; i++ {
		keys = append([]string{newSigner(t, "ES256").jwk(t, fmt.Sprintf(`"kid":"%d"`, i))}, keys...)
	}
	if r := check(setOf(t, false, keys...), text); r != nil {
		t.Errorf("among four: %v", r)
	}
	keys = append([]string{newSigner(t, "ES256").jwk(t, `"kid":"4"`)}, keys...)
	if r := check(setOf(t, false, keys...), text); r == nil || r.Reason != UnknownKey {
		t.Errorf("among five: %v", r)
	}
	if r := check(setOf(t, false, keys...), s.sign(t, `{"alg":"ES256","kid":"0"}`, `{}`)); r != nil {
		t.Errorf("one of five, by its kid: %v", r)
	}
	if r := check(setOf(t, false, s.jwk(t, "")), s.sign(t, `{"alg":"ES256","kid":"any"}`, `{}`)); r != nil {
		t.Errorf("a key without a kid: %v", r)
	}
}

// TestSucceed keeps the keys that stay, and says of the others that they are gone.
func TestSucceed(t *testing.T) {
	a, b, c := newSigner(t, "ES256"), newSigner(t, "ES256"), newSigner(t, "ES256")
	first := setOf(t, false, a.jwk(t, `"kid":"a"`), b.jwk(t, `"kid":"b"`))
	second := setOf(t, false, b.jwk(t, `"kid":"b"`), c.jwk(t, `"kid":"c"`))
	ka, kb := first.Keys()[0], first.Keys()[1]
	second.Succeed(first)
	if !ka.Gone() || kb.Gone() || second.Keys()[0] != kb || second.Keys()[1].Gone() {
		t.Errorf("gone: a %t, b %t; the same: %t", ka.Gone(), kb.Gone(), second.Keys()[0] == kb)
	}
	if got, r := second.Verify(must(t, b.sign(t, `{"alg":"ES256","kid":"b"}`, `{}`))); got != kb {
		t.Errorf("verified by %v, %v", got, r)
	}
}

func must(t testing.TB, text string) *Token {
	t.Helper()
	token, refusal := Parse(text)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return token
}

// TestRules refuses tokens of others, for others, and of other times.
func TestRules(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	rules := Rules{Issuer: "https://a", Audiences: []string{"x", "y"}, ClockSkew: 10 * time.Second}
	claims := func(more string) string { return `{"iss":"https://a","aud":"x","exp":1000100` + more + `}` }
	for _, c := range []struct {
		name, header, payload string
		rules                 Rules
		want                  string
	}{
		{name: "right", payload: claims("")},
		{name: "one audience of a list", payload: `{"iss":"https://a","aud":["z","y"],"exp":1000100}`},
		{name: "no audience wanted", rules: Rules{Issuer: "https://a"}, payload: `{"iss":"https://a","exp":1000100}`},
		{name: "expired within the skew", payload: `{"iss":"https://a","aud":"x","exp":999991}`},
		{name: "expired", payload: `{"iss":"https://a","aud":"x","exp":999990}`, want: "expired"},
		{name: "an exp with a fraction", payload: `{"iss":"https://a","aud":"x","exp":999990.5}`},
		{name: "no exp", payload: `{"iss":"https://a","aud":"x"}`, want: "no_expiry"},
		{name: "no exp, allowed", rules: Rules{Issuer: "https://a", AllowsNoExpiry: true}, payload: `{"iss":"https://a"}`},
		{name: "a text as exp", payload: `{"iss":"https://a","aud":"x","exp":"1000100"}`, want: "malformed"},
		{name: "no exp by null", payload: `{"iss":"https://a","aud":"x","exp":null}`, want: "malformed"},
		{name: "an endless exp", payload: `{"iss":"https://a","aud":"x","exp":1e400}`, want: "malformed"},
		{name: "a huge exp", payload: `{"iss":"https://a","aud":"x","exp":1e18}`, want: "malformed"},
		{name: "a negative exp", payload: `{"iss":"https://a","aud":"x","exp":-1}`, want: "malformed"},
		{name: "not yet", payload: claims(`,"nbf":1000011`), want: "not_yet_valid"},
		{name: "not yet within the skew", payload: claims(`,"nbf":1000010`)},
		{name: "issued later", payload: claims(`,"iat":1000011`), want: "not_yet_valid"},
		{name: "issued later within the skew", payload: claims(`,"iat":1000010`)},
		{name: "another issuer", payload: `{"iss":"https://A","aud":"x","exp":1000100}`, want: "issuer"},
		{name: "an issuer with a slash", payload: `{"iss":"https://a/","aud":"x","exp":1000100}`, want: "issuer"},
		{name: "no issuer", payload: `{"aud":"x","exp":1000100}`, want: "issuer"},
		{name: "a list of issuers", payload: `{"iss":["https://a"],"aud":"x","exp":1000100}`, want: "issuer"},
		{name: "another audience", payload: `{"iss":"https://a","aud":"X","exp":1000100}`, want: "audience"},
		{name: "no audience", payload: `{"iss":"https://a","exp":1000100}`, want: "audience"},
		{name: "an audience that is an object", payload: `{"iss":"https://a","aud":{"x":1},"exp":1000100}`, want: "audience"},
		{name: "an audience that is a number", payload: `{"iss":"https://a","aud":["x",1],"exp":1000100}`, want: "audience"},
		{name: "a symmetric algorithm", header: `{"alg":"HS256"}`, payload: claims(""), want: "algorithm"},
		{name: "an algorithm that is not named", header: `{"alg":"RS256"}`, payload: claims(""),
			rules: Rules{Issuer: "https://a", Algorithms: []string{"ES256"}}, want: "algorithm"},
		{name: "none", header: `{"alg":"none"}`, payload: claims(""),
			rules: Rules{Issuer: "https://a", Algorithms: []string{"ES256"}}, want: "algorithm"},
		{name: "an access token by its type", header: `{"alg":"ES256","typ":"at+JWT"}`, payload: claims("")},
		{name: "a logout token", header: `{"alg":"ES256","typ":"logout+jwt"}`, payload: claims(""), want: "type"},
	} {
		header := c.header
		if header == "" {
			header = `{"alg":"ES256"}`
		}
		if c.rules.Issuer == "" {
			c.rules = rules
		}
		token := must(t, part(header)+"."+part(c.payload)+".")
		expires, r := c.rules.Check(token, now)
		if got := nameOf(r); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if r == nil && !c.rules.AllowsNoExpiry && !expires.After(now) {
			t.Errorf("%s: counts until %s", c.name, expires)
		}
	}
}

func nameOf(r *Refusal) string {
	if r == nil {
		return ""
	}
	return r.Reason.String()
}

// FuzzParse reads any text, and what it takes is what encoding/json takes.
func FuzzParse(f *testing.F) {
	f.Add(part(`{"alg":"ES256","kid":"k"}`) + "." + part(`{"a":[1,-2.5e3,"\u00e9\ud83d\ude00"],"b":{"c":null}}`) + ".AA")
	f.Add(part(`{"alg":"none"}`) + "." + part(`{}`) + ".")
	f.Add("a.b.c")
	set := setOf(f, false, newSigner(f, "ES256").jwk(f, `"kid":"k"`))
	f.Fuzz(func(t *testing.T, text string) {
		token, refusal := Parse(text)
		if refusal != nil {
			return
		}
		if _, refusal := set.Verify(token); refusal == nil {
			t.Fatal("a token verifies that nobody has signed")
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		d := json.NewDecoder(strings.NewReader(string(payload)))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q is taken, but %v", payload, err)
		}
		if diff := cmp.Diff(want, token.Claims); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzParseSet reads any text.
func FuzzParseSet(f *testing.F) {
	f.Add([]byte(`{"keys":[` + newSigner(f, "ES256").jwk(f, `"kid":"k"`) + `]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"` + strings.Repeat("A", 43) + `"},{"kty":"RSA","n":"AQ","e":"AQ"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, problems, err := ParseSet(text, true)
		if err == nil && s.Len()+len(problems) > MaxKeys {
			t.Fatal(s.Len(), problems)
		}
	})
}

// BenchmarkVerify compares the whole of reading and verifying a token with what the library needs for the signature.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA", "HS256"} {
		s := newSigner(b, alg)
		set := setOf(b, true, s.jwk(b, `"kid":"k"`))
		text := s.sign(b, `{"alg":"`+alg+`","kid":"k","typ":"JWT"}`,
			`{"iss":"https://issuer.example","aud":"api","sub":"user-1234","exp":4000000000,"iat":1700000000,"scope":"a b"}`)
		rules := Rules{Issuer: "https://issuer.example", Audiences: []string{"api"}, Algorithms: []string{alg}}
		b.Run(alg+"/token", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				token, r := Parse(text)
				if r == nil {
					_, r = rules.Check(token, time.Now())
				}
				if r == nil {
					_, r = set.Verify(token)
				}
				if r != nil {
					b.Fatal(r)
				}
			}
		})
		token := must(b, text)
		b.Run(alg+"/signature", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := jwsbb.Verify(s.public, alg, token.signed, token.signature); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
