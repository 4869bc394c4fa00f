package consumer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/credential"
)

func withKey(name, key string) *configv1.Consumer {
	return &configv1.Consumer{Id: uuid.NewSHA1(uuid.Nil, []byte(name)).String(), Name: name, Groups: []string{"partners"},
		Credentials: &configv1.Credentials{
			ApiKeys: []*configv1.APIKey{{Name: "default", Key: proto.String(credential.StoredKey(key))}},
		}}
}

func encoded(tb testing.TB, m *configv1.Consumer) *streamv1.Resource {
	tb.Helper()
	e, err := config.NewEntry(m)
	if err != nil {
		tb.Fatal(err)
	}
	return e.Encoded()
}

func setOf(tb testing.TB, base *Set, all ...*configv1.Consumer) *Set {
	tb.Helper()
	d := base.Draft()
	for _, m := range all {
		if err := d.Put(encoded(tb, m)); err != nil {
			tb.Fatal(err)
		}
	}
	return d.Set()
}

func byKeyOf(s *Set, key string) Credential {
	h := credential.HashKey(key)
	return s.ByKey(&h)
}

// TestFoundByCredentials: each kind by what it is found by, with what is stored beside it.
func TestFoundByCredentials(t *testing.T) {
	const first, second = "the-first-key-of-app", "the-second-key-of-app"
	until := time.Date(2030, 1, 2, 3, 4, 5, 600, time.UTC)
	m := withKey("app", first)
	m.Credentials.ApiKeys = append(m.Credentials.ApiKeys, &configv1.APIKey{Name: "old", Active: proto.Bool(true),
		Key: proto.String(credential.StoredKey(second)), ExpiresAt: timestamppb.New(until)})
	m.Credentials.Basic = []*configv1.BasicCredential{{Username: "user", Password: proto.String("$argon2id$...")}}
	fingerprint := strings.Repeat("ab", 32)
	m.Credentials.Certificates = []*configv1.CertificateCredential{{Subject: "CN=a"}, {Fingerprint: fingerprint}}
	m.Credentials.Hmac = []*configv1.HMACCredential{{Id: "k1", Secret: proto.String("0123456789abcdef")}}
	s := setOf(t, &Set{}, m, withKey("other", "a-key-of-another-one"))
	app := s.ByName("app")
	for what, c := range map[string]Credential{
		"key": byKeyOf(s, first), "second key": byKeyOf(s, second), "user": s.ByUsername("user"),
		"subject":     s.BySubject("CN=a"),
		"fingerprint": s.ByFingerprint(fingerprint), "HMAC id": s.ByHMACID("k1"),
	} {
		if c.Consumer() != app {
			t.Errorf("%s is of %v", what, c.Consumer())
		}
	}
	for what, c := range map[string]Credential{
		"key": byKeyOf(s, "the-third-key-of-app"), "hash as key": byKeyOf(s, credential.StoredKey(first)),
		"user": s.ByUsername("k1"),
		"none": s.ByUsername(""), "subject": s.BySubject(fingerprint), "fingerprint": s.ByFingerprint("CN=a"),
		"id": s.ByHMACID("user"),
	} {
		if c.Consumer() != nil {
			t.Errorf("%s is of %v", what, c.Consumer().Name())
		}
	}
	at := func(t time.Time) func() time.Time { return func() time.Time { return t } }
	old := byKeyOf(s, second)
	if old.Name() != "old" || !old.Active(at(until.Add(-1))) || old.Active(at(until)) ||
		!byKeyOf(s, first).Active(at(until)) {
		t.Errorf("the key %q is active from %v to %v", old.Name(), old.Active(at(until.Add(-1))), old.Active(at(until)))
	}
	if u, h := s.ByUsername("user"), s.ByHMACID("k1"); u.Secret() != "$argon2id$..." || h.Secret() != "0123456789abcdef" {
		t.Errorf("the secrets are %q and %q", u.Secret(), h.Secret())
	}
	m.Credentials.ApiKeys[0].Active = proto.Bool(false)
	if off := setOf(t, s, m); byKeyOf(off, first).Active(at(until)) || byKeyOf(off, first).Consumer() == nil {
		t.Error("a key that is switched off is active, or gone")
	}
}

// TestCredentialsFollowTheirConsumers: in changes of one or of several at once, in any order.
func TestCredentialsFollowTheirConsumers(t *testing.T) {
	const one, other = "a-key-that-is-the-one", "a-key-that-is-another"
	s := setOf(t, &Set{}, withKey("a", one), withKey("b", other))
	swapped := setOf(t, s, withKey("a", other), withKey("b", one))
	if byKeyOf(swapped, one).Consumer().Name() != "b" || byKeyOf(swapped, other).Consumer().Name() != "a" ||
		swapped.Keys() != 2 {
		t.Error("the keys have not changed places")
	}
	if byKeyOf(s, one).Consumer().Name() != "a" {
		t.Error("the set before has changed")
	}
	d := swapped.Draft()
	d.Remove(withKey("b", "").Id)
	if err := d.Put(encoded(t, withKey("a", one))); err != nil {
		t.Fatal(err)
	}
	if d.LostSecrets() {
		t.Error("hashes of keys are taken for secrets, for which everything is written anew")
	}
	left := d.Set()
	if byKeyOf(left, one).Consumer().Name() != "a" || byKeyOf(left, other).Consumer() != nil || left.Keys() != 1 {
		t.Errorf("%d keys are left", left.Keys())
	}
	if p := left.ByName("a").Principal("x"); p != left.ByName("a").Principal("x") ||
		p == left.ByName("a").Principal("y") || p.Scheme != "x" || p.Consumer != "a" || p.Groups[0] != "partners" {
		t.Errorf("the principal is %+v", p)
	}
}

// TestCredentialLookupDoesNotAllocate, nor what is asked of the credential.
func TestCredentialLookupDoesNotAllocate(t *testing.T) {
	var all []*configv1.Consumer
	for i := range 1000 {
		all = append(all, withKey(fmt.Sprint("c", i), fmt.Sprint("a-key-of-a-thousand-", i)))
	}
	s := setOf(t, &Set{}, all...)
	want := s.ByName("c77").Principal("x")
	if n := testing.AllocsPerRun(100, func() {
		h := credential.HashKey("a-key-of-a-thousand-77")
		if c := s.ByKey(&h); !c.Active(time.Now) || c.Consumer().Principal("x") != want {
			t.Error("found another one")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCredentials: whatever the bytes of a consumer are, its credentials are those that protobuf reads.
func FuzzCredentials(f *testing.F) {
	raw, err := proto.Marshal(withKey("app", "a-key-of-a-fuzz-target").GetCredentials())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("\x0a\x04\x12\x02ab\x0a\x02\x18\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := &configv1.Credentials{}
		if proto.Unmarshal(raw, m) != nil {
			return
		}
		c := &Consumer{body: string(append([]byte{0x5a, byte(len(raw)&0x7f | 0x80), byte(len(raw) >> 7)}, raw...))}
		if len(raw) > 1<<13 {
			return
		}
		var keys []string
		eachCredential(c, func(list protowire.Number, one Credential) {
			if list == keysList {
				keys = append(keys, one.Secret())
			}
		})
		if len(keys) != len(m.GetApiKeys()) {
			t.Fatalf("%d keys, want %d", len(keys), len(m.GetApiKeys()))
		}
		for i, k := range m.GetApiKeys() {
			if k.GetKey() != keys[i] {
				t.Errorf("key %d is %q, want %q", i, keys[i], k.GetKey())
			}
		}
	})
}
