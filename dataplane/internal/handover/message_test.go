package handover

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func samples() []*message {
	return []*message{
		{kind: kindHello, text: "v1.2"},
		{kind: kindRefusal, text: "the disk is full"},
		{kind: kindReady}, {kind: kindTaken}, {kind: kindBye},
		{kind: kindGo, version: Version{Epoch: "e", Revision: 1 << 31}},
		{kind: kindOffer, offer: offer{
			build: "v1", instance: "i", secret: []byte(strings.Repeat("s", 32)), locked: true,
			names: []name{{"http", ":8080"}, {"https", "unix:/run/gateway.sock"}, {"status", "127.0.0.1:0"}},
		}},
	}
}

var unexported = cmp.AllowUnexported(message{}, offer{}, name{})

func TestMessagesComeBack(t *testing.T) {
	for _, m := range samples() {
		got, err := decode(m.encode())
		if err != nil {
			t.Fatalf("%s: %v", m.kind, err)
		}
		if diff := cmp.Diff(m, got, unexported); diff != "" {
			t.Errorf("%s: %s", m.kind, diff)
		}
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	for _, m := range samples() {
		whole := m.encode()
		for n := range whole {
			if _, err := decode(whole[:n]); err == nil {
				t.Errorf("%s: the first %d of %d bytes are taken", m.kind, n, len(whole))
			}
		}
		if _, err := decode(append(whole, 0)); err == nil {
			t.Errorf("%s: a byte too many is taken", m.kind)
		}
	}
	for name, test := range map[string]struct{ bytes, says string }{
		"something else":   {"GET / HTTP/1.1\r\n\r\n", "no message"},
		"another version":  {"GWHO\x02\x01", "version 2"},
		"an unknown kind":  {"GWHO\x01\x63", "kind 99"},
		"no text":          {"GWHO\x01\x01\x00\x01\xff", "not UTF-8"},
		"a text too long":  {"GWHO\x01\x01\xff\xff" + strings.Repeat("x", 0xffff), "at most 4096"},
		"too many sockets": {"GWHO\x01\x02\x00\x00\x00\x00\x00\x00\x00\xff", "at most 250"},
	} {
		if _, err := decode([]byte(test.bytes)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLongReasonsAreCutBetweenCharacters(t *testing.T) {
	m, err := decode((&message{kind: kindRefusal, text: strings.Repeat("ü", maxTextBytes)[1:]}).encode())
	if err != nil || len(m.text) < maxTextBytes-4 {
		t.Errorf("%d bytes, %v", len(m.text), err)
	}
}

// FuzzDecode holds that what is taken is written in the same way again.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		if got := m.encode(); string(got) != string(b) {
			t.Errorf("%q comes back as %q", b, got)
		}
	})
}
