package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/credential"
)

const (
	someKey      = "the-first-key-of-many"
	otherKey     = "the-other-key-of-many"
	somePassword = "pass word"
	someSecret   = "a shared secret of HMAC"
)

// application is a consumer with one credential of each kind.
func application(name string) *configv1.Consumer {
	return &configv1.Consumer{Name: name, Credentials: &configv1.Credentials{
		ApiKeys:      []*configv1.APIKey{{Name: "default", Key: proto.String(someKey)}},
		Basic:        []*configv1.BasicCredential{{Username: "user", Password: proto.String(somePassword)}},
		Certificates: []*configv1.CertificateCredential{{Subject: "cn=a, O=b"}, {Fingerprint: strings.Repeat("AB", 32)}},
		Hmac:         []*configv1.HMACCredential{{Id: "k1", Secret: proto.String(someSecret)}},
	}}
}

func consumerOf(c *Config, name string) *configv1.Consumer {
	return c.ByName(Consumer, name).Message.(*configv1.Consumer)
}

// TestCredentialsAreStoredHashed: neither keys nor passwords are in what is committed, and nodes get.
func TestCredentialsAreStoredHashed(t *testing.T) {
	p := mustPlan(t, Empty(), put(application("app")))
	e := p.Config.ByName(Consumer, "app")
	for _, raw := range [][]byte{e.Stored().Body, e.Encoded().GetBody()} {
		for _, secret := range []string{someKey, somePassword} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("%q is stored", secret)
			}
		}
	}
	c := consumerOf(p.Config, "app").GetCredentials()
	if got := c.GetApiKeys()[0].GetKey(); got != credential.StoredKey(someKey) {
		t.Errorf("the key is stored as %q", got)
	}
	if hash := c.GetBasic()[0].GetPassword(); !credential.Verify(hash, somePassword) {
		t.Errorf("the password is stored as %q", hash)
	}
	if got := c.GetCertificates()[0].GetSubject() + " " + c.GetCertificates()[1].GetFingerprint(); got !=
		"CN=a,O=b "+strings.Repeat("ab", 32) {
		t.Errorf("the certificates are stored as %s", got)
	}
	for kind, key := range map[CredentialKind]string{APIKey: credential.StoredKey(someKey), Username: "user",
		CertificateSubject: "CN=a,O=b", CertificateFingerprint: strings.Repeat("ab", 32), HMACID: "k1"} {
		if p.Config.ByCredential(kind, key) != e {
			t.Errorf("the consumer is not found by its %s", kind)
		}
	}
}

// TestTheSameCredentialsAgainAreNoChange: as they were given, as they are stored, or left out; in another order they
// are the same ones.
func TestTheSameCredentialsAgainAreNoChange(t *testing.T) {
	base := mustPlan(t, Empty(), put(application("app"))).Config
	hashed := proto.CloneOf(consumerOf(base, "app"))
	hashed.Id, hashed.Version, hashed.CreatedAt, hashed.UpdatedAt = "", 0, nil, nil
	shown := proto.CloneOf(hashed)
	ClearWriteOnly(shown)
	for name, again := range map[string]*configv1.Consumer{"given": application("app"), "stored": hashed, "shown": shown} {
		if p := mustPlan(t, base, put(again)); len(p.Changes) != 0 {
			t.Errorf("%s: %d changes: %s", name, len(p.Changes),
				cmp.Diff(consumerOf(base, "app"), p.Changes[0].After.Message, protocmp.Transform()))
		}
	}

	more := application("app")
	more.Credentials.ApiKeys = append([]*configv1.APIKey{{Name: "second", Key: proto.String(otherKey)}},
		&configv1.APIKey{Name: "default"}) // whose key is left out, in another place
	after := consumerOf(mustPlan(t, base, put(more)).Config, "app").GetCredentials().GetApiKeys()
	if after[0].GetKey() != credential.StoredKey(otherKey) || after[1].GetKey() != credential.StoredKey(someKey) {
		t.Errorf("the keys are %v", after)
	}

	changed := application("app")
	changed.Credentials.Basic[0].Password = proto.String("another one")
	user := consumerOf(mustPlan(t, base, put(changed)).Config, "app").GetCredentials().GetBasic()[0]
	if !credential.Verify(user.GetPassword(), "another one") {
		t.Error("the new password is not taken")
	}
}

// TestCredentialsAreOfOneConsumer: also where two change at once, and credentials may change places.
func TestCredentialsAreOfOneConsumer(t *testing.T) {
	base := mustPlan(t, Empty(), put(application("app"))).Config
	only := func(name string, change func(c *configv1.Credentials)) *configv1.Consumer {
		m := &configv1.Consumer{Name: name, Credentials: &configv1.Credentials{}}
		change(m.Credentials)
		return m
	}
	key := func(name, key string) func(*configv1.Credentials) {
		return func(c *configv1.Credentials) {
			c.ApiKeys = append(c.ApiKeys, &configv1.APIKey{Name: name, Key: proto.String(key)})
		}
	}
	for name, c := range map[string]struct {
		put   []Message
		field string
	}{
		"key":             {[]Message{only("b", key("x", someKey))}, "credentials.api_keys[0].key"},
		"key by its hash": {[]Message{only("b", key("x", credential.StoredKey(someKey)))}, "credentials.api_keys[0].key"},
		"key of another that is new too": {
			[]Message{only("b", key("x", otherKey)), only("c", key("y", otherKey))}, "credentials.api_keys[0].key",
		},
		"key twice": {[]Message{only("b", func(c *configv1.Credentials) {
			key("x", otherKey)(c)
			key("y", otherKey)(c)
		})}, "credentials.api_keys[1].key"},
		"username": {[]Message{only("b", func(c *configv1.Credentials) {
			c.Basic = []*configv1.BasicCredential{{Username: "user", Password: proto.String("p")}}
		})}, "credentials.basic[0].username"},
		"subject": {[]Message{only("b", func(c *configv1.Credentials) {
			c.Certificates = []*configv1.CertificateCredential{{Subject: "CN = a,o=b"}}
		})}, "credentials.certificates[0].subject"},
		"fingerprint": {[]Message{only("b", func(c *configv1.Credentials) {
			c.Certificates = []*configv1.CertificateCredential{{Fingerprint: strings.Repeat("ab", 32)}}
		})}, "credentials.certificates[0].fingerprint"},
		"HMAC id": {[]Message{only("b", func(c *configv1.Credentials) {
			c.Hmac = []*configv1.HMACCredential{{Id: "k1", Secret: proto.String("0123456789abcdef")}}
		})}, "credentials.hmac[0].id"},
	} {
		t.Run(name, func(t *testing.T) {
			var edits []Edit
			for _, m := range c.put {
				edits = append(edits, put(m))
			}
			_, err := base.Plan(edits, options())
			problems, _ := errors.AsType[Problems](err)
			if len(problems) != 1 || problems[0].Field != c.field || !strings.Contains(problems[0].Message, "consumer") &&
				!strings.Contains(problems[0].Message, "twice") {
				t.Fatalf("%v", err)
			}
			for _, secret := range []string{someKey, otherKey, "sha256:"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error has a key: %v", err)
				}
			}
		})
	}

	two := mustPlan(t, base, put(only("b", key("x", otherKey)))).Config
	swapped := application("app")
	swapped.Credentials.ApiKeys[0].Key = proto.String(otherKey)
	next := mustPlan(t, two, put(swapped), put(only("b", key("x", someKey)))).Config
	if next.ByCredential(APIKey, credential.StoredKey(someKey)).Name() != "b" ||
		next.ByCredential(APIKey, credential.StoredKey(otherKey)).Name() != "app" {
		t.Error("the keys have not changed places")
	}
	gone := mustPlan(t, next, Edit{Kind: Consumer, Delete: "app"}, put(only("c", key("x", otherKey)))).Config
	if e := gone.ByCredential(APIKey, credential.StoredKey(otherKey)); e == nil || e.Name() != "c" {
		t.Error("the key of a consumer that is deleted can't be another's")
	}
	if gone.ByCredential(Username, "user") != nil {
		t.Error("a consumer that is deleted is found by its username")
	}
}

// TestProblemsHaveNoSecrets: of credentials that are wrong neither value is told.
func TestProblemsHaveNoSecrets(t *testing.T) {
	for name, change := range map[string]func(c *configv1.Credentials){
		"short key":      func(c *configv1.Credentials) { c.ApiKeys[0].Key = proto.String("s3cr3t") },
		"key with space": func(c *configv1.Credentials) { c.ApiKeys[0].Key = proto.String("s3cr3t s3cr3t s3cr3t") },
		"no key":         func(c *configv1.Credentials) { c.ApiKeys[0].Key = nil },
		"name of key":    func(c *configv1.Credentials) { c.ApiKeys[0].Name = "No Name" },
		"password":       func(c *configv1.Credentials) { c.Basic[0].Password = proto.String("s3cr3t\n") },
		"no password":    func(c *configv1.Credentials) { c.Basic[0].Password = nil },
		"username":       func(c *configv1.Credentials) { c.Basic[0].Username = "a:b" },
		"hash":           func(c *configv1.Credentials) { c.Basic[0].Password = proto.String("$argon2id$v=19$s3cr3t") },
		"secret":         func(c *configv1.Credentials) { c.Hmac[0].Secret = proto.String("s3cr3t") },
		"no secret":      func(c *configv1.Credentials) { c.Hmac[0].Secret = nil },
		"id":             func(c *configv1.Credentials) { c.Hmac[0].Id = `a"b` },
		"certificate":    func(c *configv1.Credentials) { c.Certificates[0] = &configv1.CertificateCredential{} },
		"subject":        func(c *configv1.Credentials) { c.Certificates[0].Subject = "alice" },
		"fingerprint":    func(c *configv1.Credentials) { c.Certificates[1].Fingerprint = "00" },
		"too many": func(c *configv1.Credentials) {
			for i := range maxCredentials {
				key := proto.String(fmt.Sprint("0123456789abcdef", i))
				c.ApiKeys = append(c.ApiKeys, &configv1.APIKey{Name: fmt.Sprint("k", i), Key: key})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := application("app")
			change(m.GetCredentials())
			_, err := Empty().Plan([]Edit{put(m)}, options())
			problems, _ := errors.AsType[Problems](err)
			if len(problems) != 1 || !strings.HasPrefix(problems[0].Field, "credentials.") {
				t.Fatalf("%v", err)
			}
			for _, secret := range []string{"s3cr3t", someKey, somePassword, someSecret} {
				if strings.Contains(fmt.Sprintf("%+v", problems), secret) {
					t.Errorf("a problem has a secret: %+v", problems)
				}
			}
		})
	}
}

// TestShownWithoutCredentials: what is shown, and what is readable in a store, has no secrets, nor hashes of them.
func TestShownWithoutCredentials(t *testing.T) {
	m := consumerOf(mustPlan(t, Empty(), put(application("app"))).Config, "app")
	readable, taken := WithoutSecrets(m, nil)
	if len(taken) != 3 {
		t.Errorf("the secrets are %v", taken)
	}
	for _, shown := range []Message{Redacted(m), readable} {
		c := shown.(*configv1.Consumer).GetCredentials()
		if c.GetApiKeys()[0].Key != nil || c.GetBasic()[0].Password != nil || c.GetHmac()[0].Secret != nil {
			t.Errorf("it shows %v", c)
		}
		if c.GetApiKeys()[0].GetName() != "default" || c.GetBasic()[0].GetUsername() != "user" ||
			c.GetHmac()[0].GetId() != "k1" {
			t.Errorf("it lacks %v", c)
		}
	}
	kept, taken := WithoutSecrets(m, map[string]bool{m.GetCredentials().GetHmac()[0].GetSecret(): true})
	if len(taken) != 2 || kept.(*configv1.Consumer).GetCredentials().GetHmac()[0].GetSecret() != someSecret {
		t.Errorf("%v was taken of what is to be kept", taken)
	}
	if m.GetCredentials().GetApiKeys()[0].GetKey() == "" {
		t.Error("what is at rest was changed")
	}
}

// BenchmarkCommitAmongMillionKeys puts one consumer with a key among a million that have one.
func BenchmarkCommitAmongMillionKeys(b *testing.B) {
	const n = 1_000_000
	var changes []Change
	for i := range n {
		key := proto.String(credential.StoredKey(fmt.Sprintf("a-key-of-a-million-%d", i)))
		e, err := NewEntry(&configv1.Consumer{Id: fmt.Sprint(i), Name: fmt.Sprint("c", i), Credentials: &configv1.Credentials{
			ApiKeys: []*configv1.APIKey{{Name: "default", Key: key}},
		}})
		if err != nil {
			b.Fatal(err)
		}
		changes = append(changes, Change{Kind: Consumer, After: e})
	}
	start := time.Now()
	base, err := Empty().With(changes)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d consumers indexed in %v", n, time.Since(start))
	one := &configv1.Consumer{Name: "new", Credentials: &configv1.Credentials{
		ApiKeys: []*configv1.APIKey{{Name: "default", Key: proto.String(someKey)}},
	}}
	for b.Loop() {
		if _, err := base.Plan([]Edit{put(one)}, options()); err != nil {
			b.Fatal(err)
		}
	}
}
