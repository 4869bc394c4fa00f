package secretkey

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	one, other := strings.Repeat("A", 43)+"=", strings.Repeat("_", 42)+"8"
	for text, want := range map[string]string{
		one:                                  "",
		"# the key\n\n" + one + "\n" + other: "",
		"":                                   "there is no key",
		one + "\nshort":                      "line 2 is no key: it has to be 32 bytes in base64",
		one + "\n" + one:                     "line 2 has the key ",
		strings.Repeat("A", 22) + "==":       "line 1 is no key",
		strings.Repeat("secret-secret ", 3):  "line 1 is no key",
	} {
		keys, err := Parse(text)
		switch {
		case want == "" && (err != nil || len(keys) == 0 || len(keys[0].ID()) != 16):
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%q: %v, want %q", text, err, want)
		case want == "" && strings.Contains(fmt.Sprintf("%v %+v %#v", keys, keys, struct{ k Key }{keys[0]}), "0, 0, 0"):
			t.Errorf("it is printed: %#v", keys)
		case err != nil && strings.Contains(err.Error(), "secret-secret"):
			t.Errorf("the error has the key: %v", err)
		}
	}
	if info, err := os.Stat(func() string {
		f := filepath.Join(t.TempDir(), "k")
		if err := Write(f); err != nil {
			t.Fatal(err)
		}
		if Write(f) == nil {
			t.Error("a key was overwritten")
		}
		return f
	}()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestDerive(t *testing.T) {
	keys, err := Parse(strings.Repeat("A", 43) + "=\n" + strings.Repeat("_", 42) + "8")
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	var sealed []byte
	for i, of := range []struct {
		key     Key
		salt    string
		purpose string
	}{{keys[0], "a", "p"}, {keys[0], "b", "p"}, {keys[0], "a", "q"}, {keys[1], "a", "p"}} {
		aead, err := of.key.Derive([]byte(of.salt), of.purpose)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			sealed = aead.Seal(nil, nonce, []byte("secret"), nil)
		}
		if _, err := aead.Open(nil, nonce, sealed, nil); (err == nil) != (i == 0) {
			t.Errorf("%v opens it: %v", of, err)
		}
	}
}
