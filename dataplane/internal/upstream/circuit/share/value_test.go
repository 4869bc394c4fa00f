package share

import (
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/upstream/circuit"
)

func TestValuesAreReadStrictly(t *testing.T) {
	good := value(circuit.Opening{Node: 0xabc, Generation: 7}, 30*time.Second)
	if good != "1 abc 7 30000" {
		t.Fatalf("it writes %q", good)
	}
	if of, open, ok := parseValue(good); !ok || of != (circuit.Opening{Node: 0xabc, Generation: 7}) || open != 30*time.Second {
		t.Errorf("%v, %s, %t", of, open, ok)
	}
	for _, s := range []string{
		"", "1", "1 abc 7", "1 abc 7 30000 ", " 1 abc 7 30000", "1  abc 7 30000", "2 abc 7 30000", "1 ABC 7 30000",
		"1 0abc 7 30000", "1 abc 07 30000", "1 abc 0 30000", "1 abc -7 30000", "1 abc +7 30000", "1 abc 7 0", "1 abc 7 -1",
		"1 abc 7 86400001", "1 abc 7 1e3", "1 abc 7 30000\n", "1 abc 99999999999999999999 1", "1 11112222333344445 7 1",
		strings.Repeat("1", 1<<20), "1 abc 7 30000" + strings.Repeat(" ", 100),
	} {
		if _, _, ok := parseValue(s); ok {
			t.Errorf("%.40q was taken", s)
		}
		if _, ok := parseMessage("open " + hashOf("s") + " " + s); ok {
			t.Errorf("%.40q was taken in a message", s)
		}
	}
	for _, s := range []string{
		"", "open", good, "open " + good, "open x " + good, "shut " + hashOf("s") + " " + good,
		"open " + strings.ToUpper(hashOf("s")) + " " + good, "open " + hashOf("s"),
	} {
		if _, ok := parseMessage(s); ok {
			t.Errorf("the message %q was taken", s)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, word := range []string{openWord, closeWord, "", "shut "} {
		for _, v := range []string{"1 abc 7 30000", "1 0 1 1", "1 ffffffffffffffff 18446744073709551615 86400000", "x"} {
			f.Add(word + hashOf("s") + " " + v)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := parseMessage(s)
		if !ok {
			return
		}
		word := openWord
		if m.closed {
			word = closeWord
		}
		if again := word + m.hash + " " + value(m.of, m.open); again != s {
			t.Errorf("%q was read as %q", s, again)
		}
		if m.open <= 0 || m.open > maxOpen || m.of.Generation == 0 {
			t.Errorf("%q: %+v", s, m)
		}
	})
}
