package credential

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// TestKeysAreStoredAsHashes: the same key always as the same one, one that is stored as it is, and no hash can be used
// as the key that it is of.
func TestKeysAreStoredAsHashes(t *testing.T) {
	const key = "a-key-of-some-length"
	stored := StoredKey(key)
	if stored != "sha256:TOK-MJNFFAiFJS4wPc1gUs-NQ_YmMrr-BYs-eknLGUc" && stored == "" {
		t.Errorf("stored as %s", stored)
	}
	if !IsStoredKey(stored) || IsStoredKey(key) || StoredKey(stored) != stored || StoredKey(key) != stored {
		t.Errorf("%q is stored as %q", key, stored)
	}
	h := HashKey(stored)
	if KeyPrefix+string(h[:]) == stored {
		t.Error("the hash is a key of the same consumer")
	}
	if strings.Contains(stored, key) {
		t.Error("it has the key")
	}
	if HashKey(strings.Repeat("k", MaxKeyBytes+1)) != (Hash{}) {
		t.Error("a key that is too long has a hash")
	}
}

// TestKeysThatAreRefused: no error has the key.
func TestKeysThatAreRefused(t *testing.T) {
	for name, key := range map[string]string{
		"short": "fifteen-letters", "long": strings.Repeat("k", MaxKeyBytes+1), "space": "a key with spaces in it",
		"line end": "a-key-with-a-line\nend", "no ASCII": "a-key-with-ümläuts-in-it",
		"half a hash":            KeyPrefix + "abcdefghijklmnop",
		"hash with padding bits": KeyPrefix + strings.Repeat("_", 43),
	} {
		err := CheckKey(key)
		if err == nil {
			t.Errorf("%s is taken", name)
		} else if strings.Contains(err.Error(), key) {
			t.Errorf("%s: the error has the key: %v", name, err)
		}
	}
	for _, key := range []string{NewKey(), StoredKey("0123456789abcdef"), "0123456789abcdef"} {
		if err := CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	if one, other := NewKey(), NewKey(); one == other {
		t.Error("two keys are the same")
	}
}

func TestHashKeyDoesNotAllocate(t *testing.T) {
	key := NewKey()
	if n := testing.AllocsPerRun(100, func() { HashKey(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPasswords: hashes of argon2id and bcrypt verify the password alone, and two of one password differ.
func TestPasswords(t *testing.T) {
	const password = "correct horse"
	one, other := HashPassword(password), HashPassword(password)
	if one == other {
		t.Error("without a salt")
	}
	old, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []string{one, other, string(old)} {
		if !IsStoredPassword(hash) || CheckPassword(hash) != nil {
			t.Errorf("%s is no hash: %v", hash, CheckPassword(hash))
		}
		if !Verify(hash, password) || Verify(hash, "correct Horse") || Verify(hash, "") || Verify(hash, hash) {
			t.Errorf("%s verifies another one, or not its own", hash)
		}
	}
}

// TestPasswordsThatAreRefused: also hashes that would cost a node too much, or that it can't verify.
func TestPasswordsThatAreRefused(t *testing.T) {
	const rest = "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, s := range []string{
		"", strings.Repeat("p", MaxPasswordBytes+1), "line\nend", "no UTF-8 \xff",
		"$argon2id$v=19$m=1048576,t=2,p=1" + rest, "$argon2id$v=19$m=19456,t=99,p=1" + rest,
		"$argon2id$v=19$m=19456,t=2,p=64" + rest, "$argon2id$v=19$m=019456,t=2,p=1" + rest,
		"$argon2id$v=16$m=19456,t=2,p=1" + rest, "$argon2id$v=19$m=19456,t=2,p=1$AA$AA", "$argon2id$", "$argon2i$v=19$",
		"$argon2id$v=19$m=19456,t=2,p=1$$", "$1$salt$hash",
		"$2b$31$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		err := CheckPassword(s)
		if err == nil {
			t.Errorf("%q is taken", s)
		} else if len(s) > 12 && strings.Contains(err.Error(), s) {
			t.Errorf("the error has the password: %v", err)
		}
		if Verify(s, s) {
			t.Errorf("%q verifies", s)
		}
	}
	if err := CheckPassword("s3cret äöü"); err != nil {
		t.Error(err)
	}
}

// TestSubjects: however somebody writes a name, it is that of the certificate.
func TestSubjects(t *testing.T) {
	oid := func(n ...int) asn1.ObjectIdentifier { return n }
	name := pkix.RDNSequence{
		{{Type: oid(2, 5, 4, 6), Value: "DE"}},
		{{Type: oid(2, 5, 4, 10), Value: "Example, Inc."}},
		{{Type: oid(2, 5, 4, 11), Value: "b"}, {Type: oid(2, 5, 4, 3), Value: " x#"}},
		{{Type: oid(1, 2, 840, 113549, 1, 9, 1), Value: "a@b.test"}},
		{{Type: oid(1, 2, 3), Value: "n"}},
	}
	const canonical = `1.2.3=n,EMAILADDRESS=a@b.test,CN=\ x#+OU=b,O=Example\, Inc.,C=DE`
	if got := Subject(name); got != canonical {
		t.Errorf("%s, want %s", got, canonical)
	}
	for _, written := range []string{
		canonical, `1.2.3 = n, emailAddress = a@b.test , OU = b + CN = \ x\#, o=Example\2c Inc., c=DE`,
		`OID.1.2.3=n,1.2.840.113549.1.9.1=a@b.test,2.5.4.3=\20x#+ou=b,O=Example\, Inc.,C=DE`,
	} {
		if got, err := ParseSubject(written); err != nil || got != canonical {
			t.Errorf("%s is read as %s, %v", written, got, err)
		}
	}
	for _, bad := range []string{"", "alice", "CN=", "=x", "CN=a,", "CN=a;O=b",
		`CN=a\`, `CN="a"`, "XX=a", "CN=a,O", "/CN=a/O=b",
		`CN=#zz`, `CN=\zz`, strings.Repeat("x", MaxSubjectBytes) + "=a"} {
		if got, err := ParseSubject(bad); err == nil {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
}

func TestFingerprints(t *testing.T) {
	plain := strings.Repeat("0a", 32)
	for _, s := range []string{plain, strings.ToUpper(plain), strings.TrimSuffix(strings.Repeat("0A:", 32), ":")} {
		if got, err := ParseFingerprint(s); err != nil || got != plain {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", plain[1:], plain + "00", "zz" + plain[2:], "0:" + plain,
		strings.Repeat(":", 31) + plain} {
		if got, err := ParseFingerprint(s); err == nil {
			t.Errorf("%q is read as %s", s, got)
		}
	}
}

// FuzzSubject: what is written of a subject is read as itself.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"CN=a,O=b", `CN=\ a\,\20+OU=b`, "1.2.3=#0c0161"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, err := ParseSubject(s)
		if err != nil {
			return
		}
		if again, err := ParseSubject(one); err != nil || again != one {
			t.Errorf("%q is written as %q, which is read as %q: %v", s, one, again, err)
		}
	})
}

// FuzzPassword: whatever is given as a hash takes no longer than the limits allow, and harms nothing.
func FuzzPassword(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$2b$04$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckPassword(s) == nil && IsStoredPassword(s) {
			if a, err := parseArgon(s); err == nil && a.memory*a.time > 1000 {
				return // it would only take long
			}
			Verify(s, "p")
		}
	})
}
