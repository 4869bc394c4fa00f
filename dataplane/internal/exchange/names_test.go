package exchange

import "testing"

func TestLookalike(t *testing.T) {
	for name, want := range map[string]bool{
		"x_forwarded_for": true, "X_Forwarded-For": true, "x-forwarded_proto": true, "X_Real_IP": true, "client_cert": true, "transfer_encoding": true,
		"content_length": true, "X.Forwarded.For": true, "x~request!id": true,
		"x-forwarded-for": false, "x_forwarded_forr": false, "x_custom": false, "_": false, "": false, "x_forwarded_for_and_a_lot_more_than_that": false,
	} {
		if got := Lookalike(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestSameField(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"X-User", "x-user", true}, {"X-User", "X_USER", true}, {"X-User", "x.user", true}, {"x_user", "x.user", true},
		{"X-User", "X-Users", false}, {"X-User", "XUser", false}, {"X-User1", "X-User2", false}, {"", "", true}, {"a", "-", false},
	} {
		if SameField(c.a, c.b) != c.same || SameField(c.b, c.a) != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, !c.same)
		}
	}
}

func TestTakeSaysNothingOfTrailers(t *testing.T) {
	var r Response
	r.Header.Add("Grpc-Status", "5")
	if v, ok := r.Header.Take("grpc-status"); !ok || v != "5" || r.Header.Len() != 0 {
		t.Errorf("%q %v, %d are left", v, ok, r.Header.Len())
	}
	r.Trailer.Add("grpc-status", "5")
	if r.Trailers().Len() != 1 {
		t.Error("the trailer is gone")
	}
	r.Header.Del("grpc-status")
	if r.Trailers().Len() != 0 {
		t.Error("the trailer undoes what was removed")
	}
}
