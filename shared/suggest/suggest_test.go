package suggest

import (
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	known := []string{"client.address", "client.port", "route", "demo"}
	for name, want := range map[string]string{"clinet.address": "client.address", "dmeo": "demo", "rout": "route",
		"entirely different": "", "": "",
		"client": "client.port", "cilent.prot": "client.port", "dmoe": "demo"} {
		if got := Nearest(name, slices.Values(known)); got != want {
			t.Errorf("%q: %q instead of %q", name, got, want)
		}
	}
}
