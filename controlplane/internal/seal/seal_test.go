package seal

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/shared/secretkey"
)

func keys(t *testing.T, n int) []secretkey.Key {
	t.Helper()
	var all []secretkey.Key
	for range n {
		file := filepath.Join(t.TempDir(), "key")
		if err := secretkey.Write(file); err != nil {
			t.Fatal(err)
		}
		k, err := secretkey.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k...)
	}
	return all
}

func add(t *testing.T, r *Ring, id int64) []byte {
	t.Helper()
	wrapped, err := r.Make(id)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Add(id, r.Current(), wrapped); err != nil || again != nil {
		t.Fatal(again, err)
	}
	return wrapped
}

func TestSealed(t *testing.T) {
	r := NewRing(keys(t, 1))
	add(t, r, 1)
	for _, plain := range []string{"", "a", "a secret that is longer than a block"} {
		sealed := r.Seal([]byte(plain), "routes body")
		if SealedBy(sealed) != 1 || len(plain) > 8 && bytes.Contains(sealed, []byte(plain)) {
			t.Errorf("%q is sealed as %q", plain, sealed)
		}
		if got, err := r.Open(sealed, "routes body"); err != nil || string(got) != plain || got == nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := r.Open(sealed, "services body"); !errors.Is(err, ErrBroken) {
			t.Errorf("opened in another place: %v", err)
		}
		for i := range sealed {
			broken := bytes.Clone(sealed)
			broken[i] ^= 1
			if got, err := r.Open(broken, "routes body"); err == nil && SealedBy(broken) != 0 {
				t.Errorf("byte %d was changed: %q", i, got)
			}
		}
	}
	if a, b := r.Seal([]byte("x"), ""), r.Seal([]byte("x"), ""); bytes.Equal(a, b) {
		t.Error("one secret looks the same twice")
	}
	if got, err := r.Open([]byte("plain"), "routes body"); err != nil || string(got) != "plain" {
		t.Errorf("%q, %v", got, err)
	}
	if r.Seal(nil, "") != nil {
		t.Error("nothing is something")
	}
}

func TestKeysAreReplaced(t *testing.T) {
	k := keys(t, 2)
	old := NewRing(k[:1])
	wrapped := add(t, old, 1)
	sealed := old.Seal([]byte("secret"), "")

	both := NewRing([]secretkey.Key{k[1], k[0]})
	again, err := both.Add(1, old.Current(), wrapped)
	if err != nil || again == nil {
		t.Fatal(again, err)
	}
	alone := NewRing(k[1:])
	var missing *WrappedError
	if _, err := alone.Add(1, old.Current(), wrapped); !errors.As(err, &missing) || missing.By != k[0].ID() ||
		!strings.Contains(err.Error(), k[0].ID()) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := alone.Add(1, alone.Current(), wrapped); !errors.Is(err, ErrBroken) {
		t.Errorf("by the wrong key: %v", err)
	}
	if _, err := alone.Add(2, alone.Current(), again); !errors.Is(err, ErrBroken) {
		t.Errorf("as another data key: %v", err)
	}
	var unknown *UnknownKeyError
	if _, err := alone.Open(sealed, ""); !errors.As(err, &unknown) || unknown.ID != 1 {
		t.Errorf("before it is known: %v", err)
	}
	if _, err := alone.Add(1, alone.Current(), again); err != nil {
		t.Fatal(err)
	}
	if got, err := alone.Open(sealed, ""); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	add(t, alone, 2)
	if got := alone.Seal([]byte("next"), ""); SealedBy(got) != 2 {
		t.Error("sealed by the data key before")
	}
	if got, err := alone.Open(sealed, ""); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWithoutKeys(t *testing.T) {
	r := NewRing(keys(t, 1))
	add(t, r, 1)
	var none *Ring
	if got := none.Seal([]byte("plain"), ""); string(got) != "plain" {
		t.Errorf("%q", got)
	}
	if _, err := none.Open(r.Seal([]byte("secret"), ""), ""); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v", err)
	}
}
