package config

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/credential"
	"gateway.internal/shared/hamt"
)

// CredentialKind is what a consumer may be found by. The zero value is none.
type CredentialKind uint8

// The kinds of credentials, and what each is found by.
const (
	// APIKey is found by what credential.StoredKey makes of the key.
	APIKey CredentialKind = iota + 1
	// Username is that of the Basic scheme.
	Username
	// CertificateSubject is found by what credential.Subject makes of it.
	CertificateSubject
	// CertificateFingerprint is found by 64 lower-case hexadecimal digits.
	CertificateFingerprint
	// HMACID is the id of a shared secret.
	HMACID
)

// LastCredentialKind is the number of kinds of credentials.
const LastCredentialKind = HMACID

// String returns what messages call it.
func (k CredentialKind) String() string {
	return [...]string{"", "API key", "username", "subject", "fingerprint", "HMAC id"}[k]
}

// The limits of credentials.
const (
	maxCredentials   = 64 // of each list
	maxUsernameBytes = 255
	maxHMACID        = 128
	minSecretBytes   = 16
	maxSecretBytes   = 512
)

// Credential is one credential of a consumer, by what it is found by.
type Credential struct {
	Kind CredentialKind
	// Key is what it is found by, in its stored form.
	Key string
	// List and Index are where it stands in the consumer's credentials, such as "api_keys" and 0.
	List  string
	Index int
}

// Field returns its path as problems have it.
func (c Credential) Field() string {
	last := map[CredentialKind]string{
		APIKey: "key", Username: "username", CertificateSubject: "subject", CertificateFingerprint: "fingerprint",
		HMACID: "id",
	}[c.Kind]
	return fmt.Sprintf("credentials.%s[%d].%s", c.List, c.Index, last)
}

// Credentials yields the credentials of a consumer that is at rest, but for those without what they are found by.
func Credentials(m *configv1.Consumer) iter.Seq[Credential] {
	return func(yield func(Credential) bool) {
		c := m.GetCredentials()
		for i, k := range c.GetApiKeys() {
			if k.GetKey() != "" && !yield(Credential{APIKey, k.GetKey(), "api_keys", i}) {
				return
			}
		}
		for i, b := range c.GetBasic() {
			if b.GetUsername() != "" && !yield(Credential{Username, b.GetUsername(), "basic", i}) {
				return
			}
		}
		for i, t := range c.GetCertificates() {
			if t.GetSubject() != "" && !yield(Credential{CertificateSubject, t.GetSubject(), "certificates", i}) {
				return
			}
			if t.GetFingerprint() != "" && !yield(Credential{CertificateFingerprint, t.GetFingerprint(), "certificates", i}) {
				return
			}
		}
		for i, h := range c.GetHmac() {
			if h.GetId() != "" && !yield(Credential{HMACID, h.GetId(), "hmac", i}) {
				return
			}
		}
	}
}

// claim is who has a credential.
type claim struct {
	of  *Entry
	key string
}

type byCredential struct{}

// Of implements hamt.Keyer.
func (byCredential) Of(c claim) string { return c.key }

// claims are the consumers by their credentials. A change copies the way to what changed, whatever number there is.
type claims [LastCredentialKind + 1]hamt.Map[claim, byCredential]

// after returns what claims become by changes of consumers.
func (c claims) after(changes []entryChange) claims {
	var drafts [LastCredentialKind + 1]*hamt.Draft[claim, byCredential]
	draft := func(k CredentialKind) *hamt.Draft[claim, byCredential] {
		if drafts[k] == nil {
			drafts[k] = c[k].Draft()
		}
		return drafts[k]
	}
	for _, ch := range changes {
		if ch.kind() == Consumer && ch.before != nil {
			for one := range Credentials(ch.before.Message.(*configv1.Consumer)) {
				if d := draft(one.Kind); d.Get(one.Key).of == ch.before {
					d.Remove(one.Key)
				}
			}
		}
	}
	for _, ch := range changes {
		if ch.kind() == Consumer && ch.after != nil {
			for one := range Credentials(ch.after.Message.(*configv1.Consumer)) {
				draft(one.Kind).Put(claim{ch.after, one.Key})
			}
		}
	}
	for k, d := range drafts {
		if d != nil {
			c[k] = d.Map()
		}
	}
	return c
}

// ByCredential returns the consumer that has a credential, or nil. The key is in its stored form.
func (c *Config) ByCredential(k CredentialKind, key string) *Entry { return c.claims[k].Get(key).of }

// sealCredentials brings credentials into their stored form, but for passwords, whose hashes take long. What is wrong
// with them is left for check to see.
func sealCredentials(m *configv1.Consumer) {
	c := m.GetCredentials()
	for _, k := range c.GetApiKeys() {
		k.GeneratedKey = nil // nobody keeps it
		if k.Key != nil && credential.CheckKey(k.GetKey()) == nil {
			*k.Key = credential.StoredKey(k.GetKey())
		}
	}
	for _, t := range c.GetCertificates() {
		if s, err := credential.ParseSubject(t.GetSubject()); err == nil {
			t.Subject = s
		}
		if f, err := credential.ParseFingerprint(t.GetFingerprint()); err == nil {
			t.Fingerprint = f
		}
	}
}

// SealPasswords puts hashes in the place of a consumer's passwords: that of stored, which may be nil, where it is one
// of the same password for the same user. Each takes about 20 ms, so it is done before a commit's turn where that can
// be; planning does what is left. Passwords that are not valid stay as they are.
func SealPasswords(m, stored *configv1.Consumer) {
	for i, b := range m.GetCredentials().GetBasic() {
		p := b.GetPassword()
		text, fromFile := m.GetEnvironment()[fmt.Sprintf("credentials.basic[%d].password", i)]
		if p == "" || fromFile && p == text || credential.IsStoredPassword(p) || credential.CheckPassword(p) != nil {
			continue
		}
		at := slices.IndexFunc(stored.GetCredentials().GetBasic(), func(s *configv1.BasicCredential) bool {
			return s.GetUsername() == b.GetUsername()
		})
		if at >= 0 {
			if hash := stored.GetCredentials().GetBasic()[at].GetPassword(); credential.Verify(hash, b.GetPassword()) {
				*b.Password = hash
				continue
			}
		}
		*b.Password = credential.HashPassword(b.GetPassword())
	}
}

// credentials checks a consumer's credentials. No problem has a secret as its value or in its message.
func (c *checker) credentials(m *configv1.Credentials) {
	count := func(list string, n int) {
		if n > maxCredentials {
			c.fail("credentials."+list, "", "has %d entries; %d are allowed", n, maxCredentials)
		}
	}
	count("api_keys", len(m.GetApiKeys()))
	count("basic", len(m.GetBasic()))
	count("certificates", len(m.GetCertificates()))
	count("hmac", len(m.GetHmac()))
	names := map[string]bool{}
	for i, k := range m.GetApiKeys() {
		at := fmt.Sprintf("credentials.api_keys[%d].", i)
		if !ValidName(k.GetName()) {
			c.fail(at+"name", k.GetName(), "has to be a name of a-z, 0-9, \".\", \"_\" and \"-\"")
		}
		if names[k.GetName()] {
			c.fail(at+"name", k.GetName(), "is there twice")
		}
		names[k.GetName()] = true
		switch err := credential.CheckKey(k.GetKey()); {
		case k.GetKey() == "" && c.leftOut:
		case k.GetKey() == "":
			c.fail(at+"key", "", "is required: the consumer has no key of this name that could be kept")
		case err != nil:
			c.fail(at+"key", "", "%s", err)
		}
		if t := k.GetExpiresAt(); t != nil && !t.IsValid() {
			c.fail(at+"expires_at", "", "is no time of the years 1 to 9999")
		}
	}
	for i, b := range m.GetBasic() {
		at := fmt.Sprintf("credentials.basic[%d].", i)
		if n := len(b.GetUsername()); n == 0 || n > maxUsernameBytes || !utf8.ValidString(b.GetUsername()) ||
			strings.ContainsFunc(b.GetUsername(), func(r rune) bool { return r == ':' || unicode.IsControl(r) }) {
			c.fail(at+"username", b.GetUsername(), "has to be 1 to %d bytes without control characters and \":\"",
				maxUsernameBytes)
		}
		switch err := credential.CheckPassword(b.GetPassword()); {
		case b.GetPassword() == "" && c.leftOut:
		case b.GetPassword() == "":
			c.fail(at+"password", "", "is required: the consumer has no user of this name whose password could be kept")
		case err != nil:
			c.fail(at+"password", "", "%s", err)
		}
	}
	for i, t := range m.GetCertificates() {
		at := fmt.Sprintf("credentials.certificates[%d]", i)
		switch {
		case (t.GetSubject() == "") == (t.GetFingerprint() == ""):
			c.fail(at, "", "has to have one of subject and fingerprint")
		case t.GetSubject() != "":
			if _, err := credential.ParseSubject(t.GetSubject()); err != nil {
				c.fail(at+".subject", t.GetSubject(), "%s", err)
			}
		default:
			if _, err := credential.ParseFingerprint(t.GetFingerprint()); err != nil {
				c.fail(at+".fingerprint", t.GetFingerprint(), "%s", err)
			}
		}
	}
	for i, h := range m.GetHmac() {
		at := fmt.Sprintf("credentials.hmac[%d].", i)
		if id := h.GetId(); id == "" || len(id) > maxHMACID || !credential.IsVisible(id) || strings.ContainsAny(id, `"\`) {
			c.fail(at+"id", id, "has to be 1 to %d visible ASCII characters without quotes and backslashes", maxHMACID)
		}
		switch n := len(h.GetSecret()); {
		case n == 0 && c.leftOut:
		case n == 0:
			c.fail(at+"secret", "", "is required: the consumer has no secret of this id that could be kept")
		case n < minSecretBytes || n > maxSecretBytes:
			c.fail(at+"secret", "", "has %d bytes: a secret has %d to %d", n, minSecretBytes, maxSecretBytes)
		}
	}
}

// checkCredentials finds credentials that two consumers have, or one has twice. It looks at those of the consumers that
// are put, and for each at who has it now.
func (p *planner) checkCredentials() {
	type key struct {
		kind CredentialKind
		key  string
	}
	put := map[key]*stage{}
	for _, s := range p.order {
		m, ok := s.after.(*configv1.Consumer)
		if !ok {
			continue
		}
		for one := range Credentials(m) {
			if slices.Contains(s.unknown, one.Field()) {
				continue
			}
			shown := one.Key
			if one.Kind == APIKey {
				shown = ""
			}
			fail := func(format string, args ...any) {
				p.problems.add(Consumer, m.GetName(), s.edit.Location, one.Field(), shown, format, args...)
			}
			other, taken := put[key{one.Kind, one.Key}]
			now := p.base.ByCredential(one.Kind, one.Key)
			switch {
			case taken && other == s:
				fail("is there twice: each %s is of one credential", one.Kind)
			case taken:
				fail("is that of consumer %q too: each %s is of one consumer", other.after.GetName(), one.Kind)
			case now != nil && now.ID() != m.GetId() && p.staged[Consumer][now.ID()] == nil:
				fail("is that of consumer %q: each %s is of one consumer", now.Name(), one.Kind)
			}
			put[key{one.Kind, one.Key}] = s
		}
	}
}
