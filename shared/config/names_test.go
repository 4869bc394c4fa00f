package config

import (
	"strings"
	"testing"
)

// TestNamesAreNoIDs: what a reference or a deletion names is one resource, whether it goes by id or by name.
func TestNamesAreNoIDs(t *testing.T) {
	base := mustPlan(t, Empty(), put(service("users"))).Config
	id := base.ByName(Service, "users").ID()
	for name, want := range map[string]string{
		"0190a6b1-7c1e-7d3f-8a55-0123456789ab": "looks like an id",
		id:                                     "is the id of service",
		"0190a6b1-7c1e":                        "",
		"00000000-0000-0000-0000-00000000000g": "",
	} {
		_, err := base.Plan([]Edit{put(service(name))}, options())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
