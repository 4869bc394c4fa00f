package consumer

import (
	"crypto/subtle"
	"strings"
	"time"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"gateway.internal/shared/credential"
	"gateway.internal/shared/hamt"
)

// Credential is one credential of a consumer: a view into the bytes of its resource, so that it takes no memory of its
// own. The zero value is none.
type Credential struct {
	consumer *Consumer
	at, size uint32 // where its message is in the consumer's body
}

// Consumer returns whose credential it is; nil: there is none.
func (c Credential) Consumer() *Consumer { return c.consumer }

func (c Credential) message() string { return c.consumer.body[c.at : c.at+c.size] }

// text returns a field of the message that is a text; "": it has none.
func (c Credential) text(field protowire.Number) string {
	text, _ := fieldOf(c.message(), field)
	return text
}

// Name returns what it is called among the consumer's: the name of an API key, a username or an HMAC id.
func (c Credential) Name() string { return c.text(firstField) }

// Secret returns what is stored beside the name: the hash of a key or of a password, or a shared secret.
func (c Credential) Secret() string { return c.text(secretField) }

// Active reports whether an API key may be used: it is switched on and has not expired. now is asked only where it has
// an end.
func (c Credential) Active(now func() time.Time) bool {
	m := c.message()
	if _, on := fieldOf(m, activeField); on == 0 {
		return false
	}
	expires, n := fieldOf(m, expiresField)
	if n == absent {
		return true
	}
	_, seconds := fieldOf(expires, firstField)
	_, nanos := fieldOf(expires, secretField)
	return now().Before(time.Unix(max(seconds, 0), max(nanos, 0)))
}

// The fields of the messages of credentials. In all of them the first one is what they are called, and the second one,
// but for certificates, is the secret.
const (
	firstField   protowire.Number = 1
	secretField  protowire.Number = 2
	activeField  protowire.Number = 3
	expiresField protowire.Number = 4

	credentialsField protowire.Number = 11 // of Consumer
)

// absent is the number of a field that is not there.
const absent = -1 << 62

// fieldOf returns the value of a field: the last one, as protobuf has it. It allocates nothing.
func fieldOf(message string, field protowire.Number) (text string, number int64) {
	number = absent
	raw := unsafe.Slice(unsafe.StringData(message), len(message)) // protowire reads slices, and does not change them
	for at := 0; at < len(raw); {
		f, typ, n := protowire.ConsumeTag(raw[at:])
		if n < 0 {
			return text, number
		}
		at += n
		switch {
		case f == field && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(raw[at:])
			if n < 0 {
				return text, number
			}
			number = int64(v)
			at += n
		case f == field && typ == protowire.BytesType:
			v, n := protowire.ConsumeBytes(raw[at:])
			if n < 0 {
				return text, number
			}
			text, number = message[at+n-len(v):at+n], 0
			at += n
		default:
			n := protowire.ConsumeFieldValue(f, typ, raw[at:])
			if n < 0 {
				return text, number
			}
			at += n
		}
	}
	return text, number
}

// eachPart calls f with every field that is a message or a text, and where its value begins.
func eachPart(message string, f func(field protowire.Number, at int, value string)) {
	raw := unsafe.Slice(unsafe.StringData(message), len(message)) // as above
	for at := 0; at < len(raw); {
		field, typ, n := protowire.ConsumeTag(raw[at:])
		if n < 0 {
			return
		}
		at += n
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, typ, raw[at:]); n < 0 {
				return
			}
			at += n
			continue
		}
		v, n := protowire.ConsumeBytes(raw[at:])
		if n < 0 {
			return
		}
		f(field, at+n-len(v), message[at+n-len(v):at+n])
		at += n
	}
}

// sets have the credentials of all consumers, each kind by what it is found by.
type sets struct {
	keys         hamt.Map[Credential, byKey]
	usernames    hamt.Map[Credential, byUsername]
	subjects     hamt.Map[Credential, bySubject]
	fingerprints hamt.Map[Credential, byFingerprint]
	hmacs        hamt.Map[Credential, byHMACID]
}

type (
	byKey         struct{}
	byUsername    struct{}
	bySubject     struct{}
	byFingerprint struct{}
	byHMACID      struct{}
)

// Of implements hamt.Keyer.
func (byKey) Of(c Credential) string {
	return strings.TrimPrefix(c.text(secretField), credential.KeyPrefix)
}

// Of implements hamt.Keyer.
func (byUsername) Of(c Credential) string { return c.text(firstField) }

// Of implements hamt.Keyer.
func (bySubject) Of(c Credential) string { return c.text(firstField) }

// Of implements hamt.Keyer.
func (byFingerprint) Of(c Credential) string { return c.text(secretField) }

// Of implements hamt.Keyer.
func (byHMACID) Of(c Credential) string { return c.text(firstField) }

// drafts are sets that are being changed.
type drafts struct {
	keys         *hamt.Draft[Credential, byKey]
	usernames    *hamt.Draft[Credential, byUsername]
	subjects     *hamt.Draft[Credential, bySubject]
	fingerprints *hamt.Draft[Credential, byFingerprint]
	hmacs        *hamt.Draft[Credential, byHMACID]
}

func (s *sets) draft() drafts {
	return drafts{s.keys.Draft(), s.usernames.Draft(), s.subjects.Draft(), s.fingerprints.Draft(), s.hmacs.Draft()}
}

func (d *drafts) sets() sets {
	return sets{d.keys.Map(), d.usernames.Map(), d.subjects.Map(), d.fingerprints.Map(), d.hmacs.Map()}
}

// put adds a consumer's credentials, remove takes them out as far as they are still its own.
func (d *drafts) put(c *Consumer) {
	eachCredential(c, func(list protowire.Number, one Credential) {
		switch list {
		case keysList:
			add(d.keys, one)
		case basicList:
			add(d.usernames, one)
		case certificatesList:
			add(d.subjects, one)
			add(d.fingerprints, one)
		case hmacList:
			add(d.hmacs, one)
		}
	})
}

func (d *drafts) remove(c *Consumer) {
	eachCredential(c, func(list protowire.Number, one Credential) {
		switch list {
		case keysList:
			take(d.keys, one)
		case basicList:
			take(d.usernames, one)
		case certificatesList:
			take(d.subjects, one)
			take(d.fingerprints, one)
		case hmacList:
			take(d.hmacs, one)
		}
	})
}

func add[K hamt.Keyer[Credential]](d *hamt.Draft[Credential, K], one Credential) {
	var k K
	if k.Of(one) != "" {
		d.Put(one)
	}
}

func take[K hamt.Keyer[Credential]](d *hamt.Draft[Credential, K], one Credential) {
	var k K
	if key := k.Of(one); d.Get(key) == one {
		d.Remove(key)
	}
}

// The fields of Credentials.
const (
	keysList protowire.Number = iota + 1
	basicList
	certificatesList
	hmacList
)

// eachCredential calls f with each of a consumer's credentials, and the list that it is in.
func eachCredential(c *Consumer, f func(list protowire.Number, one Credential)) {
	eachPart(c.body, func(field protowire.Number, in int, all string) {
		if field != credentialsField {
			return
		}
		eachPart(all, func(list protowire.Number, at int, message string) {
			f(list, Credential{c, uint32(in + at), uint32(len(message))})
		})
	})
}

// ByKey returns the API key with a hash; none: nobody has it. It does not allocate.
func (s *Set) ByKey(h *credential.Hash) Credential {
	found := s.creds.keys.Get(unsafe.String(&h[0], len(h)))
	if found.consumer != nil && subtle.ConstantTimeCompare(h[:], []byte(byKey{}.Of(found))) != 1 {
		return Credential{}
	}
	return found
}

// ByUsername returns the user of the Basic scheme with a name; none: there is none. It does not allocate.
func (s *Set) ByUsername(name string) Credential { return s.creds.usernames.Get(name) }

// BySubject returns who has a certificate's subject, as credential.Subject writes it.
func (s *Set) BySubject(subject string) Credential { return s.creds.subjects.Get(subject) }

// ByFingerprint returns who has a certificate by its SHA-256, 64 lower-case hexadecimal digits.
func (s *Set) ByFingerprint(digits string) Credential { return s.creds.fingerprints.Get(digits) }

// ByHMACID returns the shared secret with an id. It does not allocate.
func (s *Set) ByHMACID(id string) Credential { return s.creds.hmacs.Get(id) }

// Keys returns the number of API keys.
func (s *Set) Keys() int { return s.creds.keys.Len() }
