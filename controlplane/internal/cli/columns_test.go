package cli

import (
	"testing"

	"gateway.internal/shared/config"
)

// TestEveryKindIsShown: each kind has a service whose methods are found by name, and a table.
func TestEveryKindIsShown(t *testing.T) {
	for _, k := range config.Kinds() {
		headings, rows := Rows(k, []config.Message{config.New(k)})
		if len(headings) < 3 || len(rows) != 1 || len(rows[0]) != len(headings) {
			t.Errorf("%s has the headings %q and the row %q", k, headings, rows)
		}
		service, one, many := serviceOf(k)
		sd, err := findService(service)
		if err != nil {
			t.Errorf("%s: %v", k, err)
			continue
		}
		for _, method := range []string{"List" + many, "Get" + one, "Delete" + one} {
			found := false
			for i := range sd.Methods().Len() {
				found = found || string(sd.Methods().Get(i).Name()) == method
			}
			if !found {
				t.Errorf("%s has no method %s", service, method)
			}
		}
	}
}
