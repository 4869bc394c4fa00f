package exchange

import "testing"

func TestLookalike(t *testing.T) {
	for name, want := range map[string]bool{
		"x_forwarded_for": true, "X_Forwarded-For": true, "x-forwarded_proto": true, "X_Real_IP": true, "client_cert": true, "transfer_encoding": true, "content_length": true,
		"x-forwarded-for": false, "x_forwarded_forr": false, "x_custom": false, "_": false, "": false, "x_forwarded_for_and_a_lot_more_than_that": false,
	} {
		if got := Lookalike(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
